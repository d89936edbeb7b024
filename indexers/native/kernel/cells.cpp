#include "cells.hpp"

#include <algorithm>
#include <cmath>

#include "engine.hpp"

namespace vss {
namespace {

// Where fewer rows than expected are found, the cells to be looked through next are at most so many times those before.
constexpr double kWider = 4;
// And at least so many times: each round reads all listed rows' cells.
constexpr double kLeastWider = 1.3;

// Whether `found` rows, where `expected` would lie if the allowed ones were spread evenly, are as good as `budget` of
// evenly spread ones. Where a filter contradicts the query, what it lets through begins far away, where many rows are
// about as near: the fewer there are of those expected, by the square of it the more are looked at.
bool enough(double found, double expected, double budget) {
    const double rarer = std::max(1.0, expected / found);
    return found >= budget * rarer * rarer;
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
    for (std::size_t i = 0; i < count; ++i) order_[i] = {scores_[i], static_cast<std::int32_t>(i)};
    std::make_heap(order_.begin(), order_.end());
}

std::size_t Nearest::next() {
    std::pop_heap(order_.begin(), order_.end());
    const std::size_t cell = static_cast<std::size_t>(order_.back().second);
    order_.pop_back();
    return cell;
}

void Engine::probe(const Cells &cells, const float *query, const std::uint8_t *allow, std::size_t allowed,
                   std::size_t budget, std::size_t rescore_rows, Answer answer) const {
    Nearest &nearest = nearest_of_this_thread();
    scratch_of_this_thread().query.prepare(codes_, query);
    nearest.start(scores_, cells, scratch_of_this_thread().query);
    const double share = static_cast<double>(allowed) / static_cast<double>(std::max<std::size_t>(1, codes_.count));
    std::size_t looked = 0, found = 0;
    while (!nearest.empty()) {
        const std::size_t cell = nearest.next(), size = cells.size(cell);
        const std::int32_t *members = cells.members + cells.starts[cell];
        if (nearest.rows.size() < found + size) nearest.rows.resize(2 * (found + size));
        std::int32_t *rows = nearest.rows.data();
        for (std::size_t i = 0; i < size; ++i) {
            rows[found] = members[i];
            found += static_cast<std::size_t>(allow[members[i]] != 0);
        }
        looked += size;
        const double have = static_cast<double>(found);
        if (found >= answer.k && enough(have, share * static_cast<double>(looked), static_cast<double>(budget))) break;
    }
    scan(query, nearest.rows.data(), 0, found, nullptr, rescore_rows, answer);
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
    std::vector<std::size_t> taken;
    while (!nearest.empty()) {
        taken.clear();
        while (!nearest.empty() && looked < wanted) {
            taken.push_back(nearest.next());
            looked += static_cast<double>(cells.size(taken.back()));
            nearest.marks[taken.back()] = 1;
        }
        for (std::size_t i = 0; i < count; ++i) {
            out[found] = rows[i];
            found += nearest.marks[cells.of[rows[i]]];
        }
        for (const std::size_t cell : taken) nearest.marks[cell] = 0;
        const double have = static_cast<double>(found);
        if (found >= answer.k && enough(have, share * looked, static_cast<double>(budget))) break;
        // How far it is if they go on as they came.
        const double rarer = share * looked / std::max(have, 1.0);
        const double far = static_cast<double>(budget) * rarer * rarer * rarer / share;
        wanted = std::min(kWider * looked, std::max(kLeastWider * looked, far));
    }
    scan(query, out, 0, found, nullptr, rescore_rows, answer);
}

}  // namespace vss
