#include "cells.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "engine.hpp"

namespace vss {
namespace {

// Where fewer rows than expected are found, the cells to be looked through next are at most so many times those before.
constexpr double kWider = 4;
// And at least so many times: each round reads all listed rows' cells.
constexpr double kLeastWider = 1.3;
constexpr double kSteps = 16;
// So many cells at least are put in order at a time.
constexpr std::size_t kLeastSorted = 64;

// Whether `found` rows, where `expected` would lie if the allowed ones were spread evenly, are as good as `budget` of
// evenly spread ones. Where a filter contradicts the query, what it lets through begins far away, where many rows are
// about as near: the fewer there are of those expected, by this power of it the more are looked at.
constexpr double kRarer = 3;

bool enough(double found, double expected, double budget) {
    return found >= budget * std::pow(std::max(1.0, expected / found), kRarer);
}

Nearest &nearest_of_this_thread() {
    static thread_local Nearest nearest;
    return nearest;
}

}  // namespace

void Nearest::start(const Scores &scores, const Cells &cells, const Query &query) {
    const std::size_t count = cells.count();
    sums_.resize(count);
    scores_.resize(count);
    marks.resize(std::max(marks.size(), count), 0);
    rows.clear();
    query.score(scores, cells.centres, nullptr, count, sums_.data(), scores_.data());
    order_.resize(count);
    constexpr float kLast = -std::numeric_limits<float>::infinity();
    // What is no number has no place in an order.
    for (std::size_t i = 0; i < count; ++i) {
        order_[i] = {std::isnan(scores_[i]) ? kLast : scores_[i], static_cast<std::int32_t>(i)};
    }
    begin_ = end_ = sorted_ = 0;
}

void Nearest::take(std::size_t count) {
    begin_ = end_;
    end_ += std::min(std::max<std::size_t>(1, count), order_.size() - end_);
    // Twice as many are put in order each time: most steps are short, and finding the best of those left reads them all.
    while (sorted_ < end_) {
        const std::size_t next = std::min(order_.size(), std::max({end_, 2 * sorted_, kLeastSorted}));
        const auto at = [this](std::size_t place) { return order_.begin() + static_cast<std::ptrdiff_t>(place); };
        const std::greater<std::pair<float, std::int32_t>> better;
        if (next < order_.size()) std::nth_element(at(sorted_), at(next), order_.end(), better);
        std::sort(at(sorted_), at(next), better);
        sorted_ = next;
    }
}

template <typename Visit>
void Engine::each_near(const Cells &cells, Nearest &nearest, std::size_t allowed, std::size_t budget, std::size_t k,
                       Visit visit) const {
    nearest.start(scores_, cells, scratch_of_this_thread().query);
    const double share = static_cast<double>(allowed) / static_cast<double>(std::max<std::size_t>(1, codes_.count));
    const double size = static_cast<double>(codes_.count) / static_cast<double>(cells.count());
    // A sixteenth of the cells that are expected to do, then of those taken: what is looked at in vain is no more.
    const auto least = static_cast<std::size_t>(static_cast<double>(budget) / std::max(share, 1e-12) / size / kSteps);
    std::size_t looked = 0, found = 0, done = 0;
    while (!nearest.empty()) {
        nearest.take(std::min(std::max(least, done / static_cast<std::size_t>(kSteps)), cells.count()));
        done += nearest.taken();
        for (std::size_t place = 0; place < nearest.taken(); ++place) {
            found += visit(nearest.cell(place));
            looked += cells.size(nearest.cell(place));
        }
        const double have = static_cast<double>(found);
        if (found >= k && enough(have, share * static_cast<double>(looked), static_cast<double>(budget))) break;
    }
}

void Engine::probe(const Cells &cells, const float *query, const std::uint8_t *allow, std::size_t allowed,
                   std::size_t budget, std::size_t rescore_rows, Answer answer) const {
    Nearest &nearest = nearest_of_this_thread();
    scratch_of_this_thread().query.prepare(codes_, query);
    std::size_t found = 0;
    each_near(cells, nearest, allowed, budget, answer.k, [&](std::size_t cell) {
        const std::size_t members = cells.size(cell), before = found;
        const std::int32_t *member = cells.members + cells.starts[cell];
        if (nearest.rows.size() < found + members) nearest.rows.resize(2 * (found + members));
        std::int32_t *rows = nearest.rows.data();
        for (std::size_t i = 0; i < members; ++i) {
            rows[found] = member[i];
            found += static_cast<std::size_t>(allow[member[i]] != 0);
        }
        return found - before;
    });
    scan(query, nearest.rows.data(), 0, found, nullptr, rescore_rows, answer);
}

void Engine::probe_gathered(const Cells &cells, const float *query, const Together &together, std::size_t budget,
                            std::size_t rescore_rows, Answer answer) const {
    Nearest &nearest = nearest_of_this_thread();
    scratch_of_this_thread().query.prepare(codes_, query);
    const std::size_t all = (together.count + kBlock - 1) / kBlock;
    nearest.near.assign(all, 0);
    each_near(cells, nearest, together.count, budget, answer.k, [&](std::size_t cell) {
        const auto first = static_cast<std::size_t>(together.starts[cell]);
        const auto end = static_cast<std::size_t>(together.starts[cell + 1]);
        if (first < end) std::fill(&nearest.near[first / kBlock], &nearest.near[(end - 1) / kBlock] + 1, 1);
        return end - first;
    });
    // Whole blocks, rows of other cells at their rims with them. Rising, so that one with room left comes last.
    nearest.blocks.clear();
    nearest.rows.clear();
    nearest.extras.clear();
    for (std::size_t block = 0; block < all; ++block) {
        if (nearest.near[block] == 0) continue;
        nearest.blocks.push_back(static_cast<std::uint32_t>(block));
        const std::size_t first = block * kBlock, end = std::min(together.count, first + kBlock);
        nearest.rows.insert(nearest.rows.end(), together.rows + first, together.rows + end);
        if (together.extras == nullptr) continue;
        nearest.extras.insert(nearest.extras.end(), together.extras + first, together.extras + end);
    }
    const std::size_t count = nearest.rows.size();
    const float *extras = together.extras == nullptr ? nullptr : nearest.extras.data();
    const Looked looked{nearest.rows.data(), 0, count, nullptr, together.sketches, extras, nearest.blocks.data()};
    scan(query, looked, count >= kSketched, rescore_rows, answer);
}

void Engine::probe_listed(const Cells &cells, const float *query, const std::int32_t *rows, std::size_t count,
                          std::size_t budget, std::size_t rescore_rows, Answer answer) const {
    Nearest &nearest = nearest_of_this_thread();
    scratch_of_this_thread().query.prepare(codes_, query);
    nearest.start(scores_, cells, scratch_of_this_thread().query);
    const double share = static_cast<double>(count) / static_cast<double>(std::max<std::size_t>(1, codes_.count));
    nearest.rows.resize(count + 1);  // one place for the row that is written last and does not count
    std::int32_t *out = nearest.rows.data();
    double looked = 0, wanted = static_cast<double>(budget) / std::max(share, 1e-12);
    std::size_t found = 0;
    const double size = static_cast<double>(codes_.count) / static_cast<double>(cells.count());
    while (!nearest.empty()) {
        const double more = std::min((wanted - looked) / size, static_cast<double>(cells.count()));
        nearest.take(static_cast<std::size_t>(std::ceil(std::max(more, 1.0))));
        for (std::size_t place = 0; place < nearest.taken(); ++place) {
            looked += static_cast<double>(cells.size(nearest.cell(place)));
            nearest.marks[nearest.cell(place)] = 1;
        }
        for (std::size_t i = 0; i < count; ++i) {
            out[found] = rows[i];
            found += nearest.marks[cells.of[rows[i]]];
        }
        for (std::size_t place = 0; place < nearest.taken(); ++place) nearest.marks[nearest.cell(place)] = 0;
        const double have = static_cast<double>(found);
        if (found >= answer.k && enough(have, share * looked, static_cast<double>(budget))) break;
        // How far it is if they go on as they came.
        const double rarer = share * looked / std::max(have, 1.0);
        const double far = static_cast<double>(budget) * std::pow(rarer, kRarer + 1) / share;
        wanted = std::min(kWider * looked, std::max(kLeastWider * looked, far));
    }
    scan(query, out, 0, found, nullptr, rescore_rows, answer);
}

}  // namespace vss
