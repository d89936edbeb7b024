#include "engine.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace vss {
namespace {

// A beam wider than there are rows would only take memory; one of no width has no place.
std::size_t beam_width(std::size_t wanted, std::size_t k, std::size_t rows) {
    return std::max<std::size_t>(1, std::min(std::max(wanted, k), rows));
}

// How many allowed rows a walk meets is chance: it is wide enough for so many standard deviations more than k.
constexpr double kSpare = 1.5;
// A walk that finds k rows of so many times k, as one for a share of the rows does, needs less to spare for each: its
// width grows with this power of what the share leaves out.
constexpr double kWider = 1.1, kPower = 0.8;
// This part of the wanted rows will do, if it holds as many as are asked for.
constexpr double kEnough = 0.5;
// Where it does not, another walk is so much wider than what is lacking asks for.
constexpr double kMore = 1.25;
// Where what is allowed lies far from the query it is found at the rim of a beam, which a walk knows less well than its
// middle: once a walk has come back short, what lies beyond this part of the beam does not count as enough.
constexpr double kTrusted = 0.5;
// A walk takes the time of a scan of about this many scattered rows for each link of each row of its width, and, as
// what it meets moves part of the beam, of so many for each pair of places in it.
constexpr double kRowsALink = 1.4, kRowsAPair = 0.005;

// How far codes are off, and sketches from them, is seen on so many rows, taken evenly: the best by codes are those that
// they flatter.
constexpr std::size_t kSampled = 24;
// No score is taken to be off by more than so many standard deviations: of codes, and of sketches, where each more has
// half as many rows again looked at (of 10,000 true neighbours 4 cost none).
constexpr double kErrors = 5, kSketchErrors = 4;

// Rows that are scored exactly at once: while some are fetched from memory, others are on their way.
constexpr std::size_t kChunk = 64;
// Nearly always none of them will do, and that is seen of all at once. A NaN is not below anything.
inline bool any_reaches(const float *scores, std::size_t count, float least) {
    std::uint32_t reached = 0;
    for (std::size_t i = 0; i < count; ++i) reached |= static_cast<std::uint32_t>(!(scores[i] < least));
    return reached != 0;
}

// The places of up to `kSampled` of so many rows, taken evenly; how many there are.
std::size_t taken_evenly(std::size_t count, std::size_t *places) {
    const std::size_t size = std::min(kSampled, count);
    for (std::size_t i = 0; i < size; ++i) places[i] = i * count / size;
    return size;
}

// How far one kind of score is above another.
class Differences {
  public:
    void add(double difference) {
        if (!std::isfinite(difference)) return;
        sum_ += difference;
        squares_ += difference * difference;
        ++count_;
    }
    // Hardly any is more; not finite where there is none.
    double most(double errors) const {
        return sum_ / count_ + errors * deviation();
    }
    double deviation() const {
        const double mean = sum_ / count_;
        return std::sqrt(std::max(0.0, squares_ / count_ - mean * mean));
    }

  private:
    double sum_ = 0, squares_ = 0, count_ = 0;
};

}  // namespace

// Not inlined: where it was, GCC asked for the thread's memory anew at every row.
__attribute__((noinline)) Scratch &scratch_of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
}

double widened(std::size_t width, std::size_t k, double share) {
    const double least = static_cast<double>(k) + kSpare * std::sqrt(static_cast<double>(k));
    return std::max(kWider * static_cast<double>(width) * std::pow(share, -kPower), least / share);
}

void Engine::search(const float *query, std::size_t width, Answer answer) const {
    Scratch &scratch = scratch_of_this_thread();
    scratch.query.prepare(codes_, query);
    walk(scores_, codes_, graph_, beam_width(width, answer.k, codes_.count), scratch);
    rescore(query, scratch, answer);
}

bool Engine::search_allowed(const float *query, const std::uint8_t *allow, std::size_t allowed, std::size_t width,
                            bool again, Answer answer) const {
    Scratch &scratch = scratch_of_this_thread();
    scratch.query.prepare(codes_, query);
    width = beam_width(width, answer.k, allowed);
    const double share = static_cast<double>(allowed) / static_cast<double>(std::max<std::size_t>(1, codes_.count));
    const auto enough = static_cast<std::size_t>(std::ceil(kEnough * static_cast<double>(width)));
    double wanted = widened(width, answer.k, share), trusted = 1;
    const double links = kRowsALink * static_cast<double>(std::max<std::size_t>(1, graph_.degree));
    while (wanted * (links + kRowsAPair * wanted) < static_cast<double>(allowed)) {
        walk(scores_, codes_, graph_, static_cast<std::size_t>(wanted), scratch);
        const std::size_t inside = static_cast<std::size_t>(trusted * static_cast<double>(scratch.beam.size()));
        const std::size_t met = scratch.beam.keep(allow, inside);
        if (met >= std::min(std::max(enough, answer.k), allowed)) {
            rescore(query, scratch, answer);
            return true;
        }
        if (!again) return false;
        trusted = kTrusted;
        const double short_of = static_cast<double>(width) / static_cast<double>(std::max<std::size_t>(1, met));
        wanted *= std::max(2.0, kMore * short_of);
    }
    return false;
}

template <typename Bar, typename Offer>
void Engine::each(const Looked &looked, const Scratch &scratch, Bar bar, Offer offer) const {
    constexpr std::size_t kStep = 64, kAhead = 16, kFew = 4;
    std::int32_t sums[kStep];
    float scores[kStep];
    for (std::size_t start = 0; start < looked.count; start += kStep) {
        const std::size_t size = std::min(kStep, looked.count - start);
        if (looked.rows == nullptr) {
            const std::size_t at = looked.first + start;
            Codes part = codes_;
            part.data = static_cast<const char *>(codes_.data) + at * codes_.bytes();
            if (codes_.extra != nullptr) part.extra = codes_.extra + at;
            scratch.query.score(scores_, part, nullptr, size, sums, scores);
        } else {
            // Few at a time: memory takes no more requests than it can answer at once.
            for (std::size_t place = 0; place < size; place += kFew) {
                const std::size_t some = std::min(kFew, size - place), ahead = start + place + kAhead;
                for (std::size_t i = ahead; i < std::min(looked.count, ahead + some); ++i) codes_.prefetch(looked.rows[i]);
                scratch.query.score(scores_, codes_, looked.rows + start + place, some, sums, scores + place);
            }
        }
        if (!any_reaches(scores, size, bar())) continue;
        for (std::size_t i = 0; i < size; ++i) {
            const std::int32_t row = looked.row(start + i);
            if (looked.allow == nullptr || looked.allow[row] != 0) offer(scores[i], row);
        }
    }
}

template <typename Bar, typename Offer>
void Engine::each_likely(const Looked &looked, float apart, const Scratch &scratch, Bar bar, Offer offer) const {
    std::int32_t rows[kChunk] = {}, sums[kChunk];
    float scores[kChunk], estimated[kChunk];
    std::size_t waiting = 0;
    const auto measure = [&] {
        scratch.query.score(scores_, codes_, rows, waiting, sums, scores);
        for (std::size_t i = 0; i < waiting; ++i) offer(scores[i], rows[i], estimated[i]);
        waiting = 0;
    };
    // Bit by bit: which will do is chance, and a branch for each would be mispredicted.
    const auto each_of = [&](const float *scores, std::size_t left, float least, auto use) {
        std::uint32_t reaching = scores_.reaching(scores, least);
        if (left < kGlance) reaching &= (1U << left) - 1;
        for (; reaching != 0; reaching &= reaching - 1) use(static_cast<std::size_t>(__builtin_ctz(reaching)));
    };
    const std::size_t glances = (looked.count + kGlance - 1) / kGlance;
    for (std::size_t first = 0; first < glances; first += kGlance) {
        const float least = bar() - apart;
        each_of(scratch.highest.data() + first, glances - first, least, [&](std::size_t glance) {
            const std::size_t start = (first + glance) * kGlance;
            const float *estimates = scratch.estimates.data() + start;
            each_of(estimates, looked.count - start, least, [&](std::size_t i) {
                const std::int32_t row = looked.row(start + i);
                if (looked.allow != nullptr && looked.allow[row] == 0) return;
                rows[waiting] = row;
                estimated[waiting++] = estimates[i];
                codes_.prefetch(row);
                if (waiting == kChunk) measure();
            });
        });
    }
    measure();
}

float Engine::estimate(const Looked &looked, Scratch &scratch) const {
    scratch.sketch.prepare(looked.sketches, codes_, scratch.query);
    if (scratch.estimates.size() < looked.count + kBlock) {
        scratch.estimates.resize(looked.count + kBlock);
        scratch.highest.resize(scratch.estimates.size() / kGlance + kGlance);
    }
    scratch.sketch.estimate(scores_, looked.sketches, looked.extras, looked.blocks, looked.first, looked.count,
                            scratch.estimates.data(), scratch.highest.data());
    std::size_t places[kSampled];
    std::int32_t rows[kSampled], sums[kSampled];
    float coded[kSampled];
    const std::size_t size = taken_evenly(looked.count, places);
    for (std::size_t i = 0; i < size; ++i) rows[i] = looked.row(places[i]);
    scratch.query.score(scores_, codes_, rows, size, sums, coded);
    Differences apart;
    for (std::size_t i = 0; i < size; ++i) {
        apart.add(static_cast<double>(coded[i]) - static_cast<double>(scratch.estimates[places[i]]));
    }
    return static_cast<float>(apart.most(kSketchErrors));
}

float Engine::likely_bar(const Looked &looked, std::size_t wide, float &apart, Scratch &scratch) const {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    // At least `wide` estimates are no lower than the `wide`-th of the highest ones, each of a part of the rows.
    const std::size_t glances = (looked.count + kGlance - 1) / kGlance;
    const std::size_t together = std::max<std::size_t>(1, glances / (8 * wide));
    std::vector<float> &bars = scratch.bars;
    bars.clear();
    for (std::size_t start = 0; start < glances; start += together) {
        const float *highest = scratch.highest.data() + start;
        bars.push_back(*std::max_element(highest, highest + std::min(together, glances - start)));
    }
    if (bars.size() < wide) return kNone;
    const auto last = bars.begin() + static_cast<std::ptrdiff_t>(wide) - 1;
    std::nth_element(bars.begin(), last, bars.end(), std::greater<float>());
    Best &best = scratch.exact;
    best.start(wide);
    Differences differences;
    each_likely(looked, 0, scratch, [least = *last] { return least; },
                [&](float score, std::int32_t row, float estimated) {
                    best.offer(score, row);
                    differences.add(static_cast<double>(score) - static_cast<double>(estimated));
                });
    if (best.rows().size() < wide) return kNone;
    // The estimates of the best are too high on the average, as the best were chosen by them; how much they vary counts.
    apart = std::max(apart, static_cast<float>(kSketchErrors * differences.deviation()));
    return best.least();
}

void Engine::scan(const float *query, const std::int32_t *rows, std::size_t first, std::size_t count,
                  const std::uint8_t *allow, std::size_t rescore_rows, Answer answer) const {
    const Looked looked{rows, first, count, allow, sketches_, codes_.extra == nullptr ? nullptr : codes_.extra + first};
    const bool sketched = rows == nullptr && sketches_.blocks != nullptr && count >= kSketched && first % kBlock == 0;
    scan(query, looked, sketched, rescore_rows, answer);
}

void Engine::scan_gathered(const float *query, const Together &together, std::size_t rescore_rows, Answer answer) const {
    const Looked looked{together.rows, 0, together.count, nullptr, together.sketches, together.extras};
    scan(query, looked, true, rescore_rows, answer);
}

void Engine::scan(const float *query, const Looked &looked, bool sketched, std::size_t rescore_rows,
                  Answer answer) const {
    Scratch &scratch = scratch_of_this_thread();
    scratch.query.prepare(codes_, query);
    Best &coded = scratch.coded;
    const std::size_t count = looked.count;
    const std::size_t most = beam_width(0, answer.k, count), wide = beam_width(rescore_rows, answer.k, count);
    float apart = sketched ? estimate(looked, scratch) : 0;
    // Those of the others that are better than some of these are looked for from the beginning.
    const float none = -std::numeric_limits<float>::infinity();
    float from = sketched ? likely_bar(looked, wide, apart, scratch) : none;
    const auto each_above = [&](auto bar, auto offer) {
        if (sketched) {
            each_likely(looked, apart, scratch, bar, [&](float score, std::int32_t row, float) { offer(score, row); });
        } else {
            each(looked, scratch, bar, offer);
        }
    };
    const auto find = [&] {
        coded.start(wide);
        each_above([&coded, from] { return std::max(coded.bar(), from); },
                   [&coded](float score, std::int32_t row) { coded.offer(score, row); });
    };
    find();
    if (from > none && coded.rows().size() < wide) {
        // There are so many that score as much: the estimates mislead.
        sketched = false;
        from = none;
        find();
    }
    keep_best(query, most, scratch, [&](auto add) {
        for (const Met &one : coded.rows()) add(one.row);
    });
    if (!coded.rows().empty() && coded.rows().size() < count) {
        // The codes cannot tell from the k-th what they put no further below it than they are off.
        const double least = scratch.exact.least() - most_off(query, looked, scratch);
        if (std::isfinite(least) && !(static_cast<double>(coded.least()) < least)) {
            const float below = std::nextafter(static_cast<float>(least), -std::numeric_limits<float>::infinity());
            keep_best(query, most, scratch, [&](auto add) {
                each_above([below] { return below; }, [&](float score, std::int32_t row) {
                    if (!(static_cast<double>(score) < least)) add(row);
                });
            });
        }
    }
    give(scratch, answer);
}

void Engine::rescore(const float *query, Scratch &scratch, Answer answer) const {
    const Beam &beam = scratch.beam;
    keep_best(query, beam_width(0, answer.k, beam.size()), scratch, [&](auto add) {
        for (std::size_t i = 0; i < beam.size(); ++i) add(beam.row(i));
    });
    give(scratch, answer);
}

template <typename Add>
void Engine::keep_best(const float *query, std::size_t most, Scratch &scratch, Add add) const {
    scratch.reserve(kChunk);
    scratch.exact.start(most);
    std::size_t waiting = 0;
    const auto measure = [&] {
        measure_exactly(query, waiting, scratch);
        for (std::size_t i = 0; i < waiting; ++i) scratch.exact.offer(scratch.scores[i], scratch.rows[i]);
        waiting = 0;
    };
    add([&](std::int32_t row) {
        scratch.rows[waiting++] = row;
        if (waiting == kChunk) measure();
    });
    measure();
}

double Engine::most_off(const float *query, const Looked &looked, Scratch &scratch) const {
    scratch.reserve(kSampled);
    std::size_t places[kSampled];
    const std::size_t size = taken_evenly(looked.count, places);
    for (std::size_t i = 0; i < size; ++i) scratch.rows[i] = looked.row(places[i]);
    float coded[kSampled];
    scratch.query.score(scores_, codes_, scratch.rows.data(), size, scratch.sums.data(), coded);
    measure_exactly(query, size, scratch);
    Differences off;
    for (std::size_t i = 0; i < size; ++i) {
        off.add(static_cast<double>(scratch.scores[i]) - static_cast<double>(coded[i]));
    }
    return off.most(kErrors);
}

void Engine::measure_exactly(const float *query, std::size_t count, Scratch &scratch) const {
    for (std::size_t i = 0; i < count; ++i) {
        const char *at = vectors_.row(static_cast<std::size_t>(scratch.rows[i]));
        for (std::size_t j = 0; j < vectors_.bytes(); j += 64) __builtin_prefetch(at + j);
    }
    const std::int32_t *rows = scratch.rows.data();
    float *out = scratch.scores.data();
    const bool dot = measure_ == Measure::kDot;
    if (vectors_.halves != nullptr) {
        (dot ? scores_.dot_f16 : scores_.square_f16)(vectors_.halves, vectors_.dim, query, rows, count, out);
    } else {
        (dot ? scores_.dot_f32 : scores_.square_f32)(vectors_.floats, vectors_.dim, query, rows, count, out);
    }
    if (dot) return;
    for (std::size_t i = 0; i < count; ++i) out[i] /= -2;
}

void Engine::give(Scratch &scratch, Answer answer) const {
    const std::vector<Met> &best = scratch.exact.sorted();
    for (std::size_t i = 0; i < answer.k; ++i) {
        const bool found = i < best.size();
        const float score = found ? best[i].score : -std::numeric_limits<float>::infinity();
        answer.rows[i] = found ? best[i].row : -1;
        answer.scores[i] = measure_ == Measure::kEuclid && found ? -std::sqrt(-2 * score) : score;
    }
}

}  // namespace vss
