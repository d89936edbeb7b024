#include "engine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vss {
namespace {

// A beam wider than there are rows would only take memory; one of no width has no place.
std::size_t beam_width(std::size_t wanted, std::size_t k, std::size_t rows) {
    return std::max<std::size_t>(1, std::min(std::max(wanted, k), rows));
}

// One for each thread, kept: its memory is a byte for each row of the largest index that the thread has searched.
Scratch &scratch_of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
}

// From this part of allowed rows on, an ordinary walk that is as much wider meets enough of them, in less time than one
// that looks for them two links away.
constexpr double kWide = 0.3;
// Such a walk is a quarter wider still: how many of its rows are allowed is a matter of chance.
constexpr std::size_t kSpare = 4;

}  // namespace

void Engine::search(const float *query, std::size_t width, Answer answer) const {
    Scratch &scratch = scratch_of_this_thread();
    scratch.query.prepare(codes_, query);
    walk(scores_, codes_, graph_, beam_width(width, answer.k, codes_.count), scratch);
    rescore(query, scratch, answer);
}

bool Engine::search_allowed(const float *query, const std::uint8_t *allow, std::size_t allowed, std::size_t width,
                            Answer answer) const {
    Scratch &scratch = scratch_of_this_thread();
    scratch.query.prepare(codes_, query);
    width = beam_width(width, answer.k, codes_.count);
    const double share = static_cast<double>(allowed) / static_cast<double>(std::max<std::size_t>(1, codes_.count));
    const bool wide = share >= kWide;
    const auto needed = static_cast<std::size_t>(std::ceil(static_cast<double>(width) / std::max(share, kWide)));
    walk(scores_, codes_, graph_, wide ? std::min(needed + needed / kSpare, codes_.count) : width, scratch);
    const double expected = static_cast<double>(scratch.beam.size()) * share;
    scratch.beam.keep(allow);
    const std::size_t met = scratch.beam.size();
    if (static_cast<double>(met) < expected / 2 || met == 0) return false;
    if (!wide || met < std::min(width, allowed)) {
        std::vector<std::int32_t> starts(met);
        for (std::size_t i = 0; i < met; ++i) starts[i] = scratch.beam.row(i);
        walk_allowed(scores_, codes_, graph_, allow, starts.data(), met, width, scratch);
    }
    rescore(query, scratch, answer);
    return true;
}

void Engine::scan(const float *query, const std::int32_t *rows, std::size_t first, std::size_t count,
                  std::size_t rescore_rows, Answer answer) const {
    Scratch &scratch = scratch_of_this_thread();
    scratch.query.prepare(codes_, query);
    scratch.beam.start(beam_width(rescore_rows, answer.k, count));
    constexpr std::size_t kStep = 16, kAhead = 16;
    scratch.reserve(kStep);
    for (std::size_t start = 0; start < count; start += kStep) {
        const std::size_t size = std::min(kStep, count - start);
        if (rows == nullptr) {
            Codes part = codes_;
            part.data = static_cast<const char *>(codes_.data) + (first + start) * codes_.bytes();
            if (codes_.extra != nullptr) part.extra = codes_.extra + first + start;
            scratch.query.score(scores_, part, nullptr, size, scratch.sums.data(), scratch.scores.data());
        } else {
            for (std::size_t i = start + kAhead; i < std::min(count, start + kAhead + kStep); ++i) codes_.prefetch(rows[i]);
            scratch.query.score(scores_, codes_, rows + start, size, scratch.sums.data(), scratch.scores.data());
        }
        for (std::size_t i = 0; i < size; ++i) {
            const std::size_t row = rows == nullptr ? first + start + i : static_cast<std::size_t>(rows[start + i]);
            scratch.beam.offer(scratch.scores[i], static_cast<std::int32_t>(row));
        }
    }
    rescore(query, scratch, answer);
}

void Engine::rescore(const float *query, Scratch &scratch, Answer answer) const {
    const Beam &beam = scratch.beam;
    const std::size_t count = beam.size();
    scratch.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        scratch.rows[i] = beam.row(i);
        const char *at = reinterpret_cast<const char *>(vectors_.data + static_cast<std::size_t>(beam.row(i)) * vectors_.dim);
        for (std::size_t j = 0; j < vectors_.dim * sizeof(float); j += 64) __builtin_prefetch(at + j);
    }
    const auto score = measure_ == Measure::kDot ? scores_.dot_f32 : scores_.square_f32;
    score(vectors_.data, vectors_.dim, query, scratch.rows.data(), count, scratch.scores.data());
    static thread_local std::vector<Met> best;
    best.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        float value = scratch.scores[i];
        if (measure_ == Measure::kEuclid) value = -std::sqrt(value);
        if (!(value == value)) value = -std::numeric_limits<float>::infinity();
        best[i] = {value, scratch.rows[i]};
    }
    const std::size_t kept = std::min(answer.k, count);
    std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(kept), best.end(),
                      [](const Met &a, const Met &b) { return a.score != b.score ? a.score > b.score : a.row < b.row; });
    for (std::size_t i = 0; i < answer.k; ++i) {
        answer.rows[i] = i < kept ? best[i].row : -1;
        answer.scores[i] = i < kept ? best[i].score : -std::numeric_limits<float>::infinity();
    }
}

}  // namespace vss
