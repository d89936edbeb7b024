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

// A walk for allowed rows is so much wider than their part of all rows asks for: how many it meets is chance.
constexpr double kSpare = 1.25;
// This part of the wanted rows will do, if it holds as many as are asked for.
constexpr double kEnough = 0.75;
// Where what is allowed lies far from the query it is found at the rim of a beam, which a walk knows less well than its
// middle: once a walk has come back short, what lies beyond this part of the beam does not count as enough.
constexpr double kTrusted = 0.5;
// A walk takes the time of a scan of about this many scattered rows for each link of each row of its width.
constexpr double kRowsALink = 1.4;

// How far codes are off is seen on so many rows, taken evenly: the best by codes are those that they flatter.
constexpr std::size_t kSampled = 24;
// No score by codes is taken to be off by more than so many standard deviations.
constexpr double kErrors = 4;

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
    width = beam_width(width, answer.k, allowed);
    const double share = static_cast<double>(allowed) / static_cast<double>(std::max<std::size_t>(1, codes_.count));
    const auto enough = static_cast<std::size_t>(std::ceil(kEnough * static_cast<double>(width)));
    double wanted = kSpare * static_cast<double>(width) / share, trusted = 1;
    const double rows = kRowsALink * static_cast<double>(std::max<std::size_t>(1, graph_.degree));
    while (wanted * rows < static_cast<double>(allowed)) {
        walk(scores_, codes_, graph_, static_cast<std::size_t>(wanted), scratch);
        const std::size_t inside = static_cast<std::size_t>(trusted * static_cast<double>(scratch.beam.size()));
        const std::size_t met = scratch.beam.keep(allow, inside);
        if (met >= std::min(std::max(enough, answer.k), allowed)) {
            rescore(query, scratch, answer);
            return true;
        }
        trusted = kTrusted;
        const double short_of = static_cast<double>(width) / static_cast<double>(std::max<std::size_t>(1, met));
        wanted *= std::max(2.0, kSpare * short_of);
    }
    return false;
}

template <typename Offer>
void Engine::each(const std::int32_t *rows, std::size_t first, std::size_t count, Scratch &scratch, Offer offer) const {
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
            const std::size_t end = std::min(count, start + kAhead + kStep);
            for (std::size_t i = start + kAhead; i < end; ++i) codes_.prefetch(rows[i]);
            scratch.query.score(scores_, codes_, rows + start, size, scratch.sums.data(), scratch.scores.data());
        }
        for (std::size_t i = 0; i < size; ++i) {
            const std::size_t row = rows == nullptr ? first + start + i : static_cast<std::size_t>(rows[start + i]);
            offer(scratch.scores[i], static_cast<std::int32_t>(row));
        }
    }
}

void Engine::scan(const float *query, const std::int32_t *rows, std::size_t first, std::size_t count,
                  std::size_t rescore_rows, Answer answer) const {
    Scratch &scratch = scratch_of_this_thread();
    scratch.query.prepare(codes_, query);
    Beam &beam = scratch.beam;
    beam.start(beam_width(rescore_rows, answer.k, count));
    each(rows, first, count, scratch, [&](float score, std::int32_t row) { beam.offer(score, row); });
    double least = rescore(query, scratch, answer);
    if (beam.size() == count) return;
    least -= most_off(query, rows, first, count, scratch);
    if (static_cast<double>(beam.score(beam.size() - 1)) < least) return;
    static thread_local std::vector<std::int32_t> likely;
    likely.clear();
    each(rows, first, count, scratch, [&](float score, std::int32_t row) {
        if (!(static_cast<double>(score) < least)) likely.push_back(row);
    });
    scratch.reserve(likely.size());
    std::copy(likely.begin(), likely.end(), scratch.rows.begin());
    measure_exactly(query, likely.size(), scratch);
    give_best(likely.size(), scratch, answer);
}

double Engine::rescore(const float *query, Scratch &scratch, Answer answer) const {
    const std::size_t count = scratch.beam.size();
    scratch.reserve(count);
    for (std::size_t i = 0; i < count; ++i) scratch.rows[i] = scratch.beam.row(i);
    measure_exactly(query, count, scratch);
    return give_best(count, scratch, answer);
}

double Engine::most_off(const float *query, const std::int32_t *rows, std::size_t first, std::size_t count,
                        Scratch &scratch) const {
    const std::size_t size = std::min(kSampled, count);
    scratch.reserve(size);
    for (std::size_t i = 0; i < size; ++i) {
        const std::size_t place = i * count / size;
        scratch.rows[i] = rows == nullptr ? static_cast<std::int32_t>(first + place) : rows[place];
    }
    float coded[kSampled];
    scratch.query.score(scores_, codes_, scratch.rows.data(), size, scratch.sums.data(), coded);
    measure_exactly(query, size, scratch);
    double sum = 0, squares = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const double off = static_cast<double>(scratch.scores[i]) - coded[i];
        sum += off;
        squares += off * off;
    }
    const double mean = sum / static_cast<double>(size);
    return mean + kErrors * std::sqrt(std::max(0.0, squares / static_cast<double>(size) - mean * mean));
}

void Engine::measure_exactly(const float *query, std::size_t count, Scratch &scratch) const {
    for (std::size_t i = 0; i < count; ++i) {
        const char *at =
            reinterpret_cast<const char *>(vectors_.data + static_cast<std::size_t>(scratch.rows[i]) * vectors_.dim);
        for (std::size_t j = 0; j < vectors_.dim * sizeof(float); j += 64) __builtin_prefetch(at + j);
    }
    const auto score = measure_ == Measure::kDot ? scores_.dot_f32 : scores_.square_f32;
    score(vectors_.data, vectors_.dim, query, scratch.rows.data(), count, scratch.scores.data());
    if (measure_ == Measure::kDot) return;
    for (std::size_t i = 0; i < count; ++i) scratch.scores[i] /= -2;
}

double Engine::give_best(std::size_t count, const Scratch &scratch, Answer answer) const {
    constexpr float kWorst = -std::numeric_limits<float>::infinity();
    static thread_local std::vector<Met> best;
    best.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        const float score = scratch.scores[i];
        best[i] = {score == score ? score : kWorst, scratch.rows[i]};
    }
    const std::size_t kept = std::min(answer.k, count);
    std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(kept), best.end(),
                      [](const Met &a, const Met &b) { return a.score != b.score ? a.score > b.score : a.row < b.row; });
    for (std::size_t i = 0; i < answer.k; ++i) {
        answer.rows[i] = i < kept ? best[i].row : -1;
        const float score = i < kept ? best[i].score : kWorst;
        answer.scores[i] = measure_ == Measure::kEuclid && i < kept ? -std::sqrt(-2 * score) : score;
    }
    return kept == answer.k && kept > 0 ? best[kept - 1].score : kWorst;
}

}  // namespace vss
