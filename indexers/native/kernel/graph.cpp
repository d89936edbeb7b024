#include "graph.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace vss {
namespace {

// Scores the gathered rows and offers them to the beam.
void offer_all(const Scores &scores, const Codes &codes, Scratch &scratch, std::size_t count) {
    scratch.query.score(scores, codes, scratch.rows.data(), count, scratch.sums.data(), scratch.scores.data());
    for (std::size_t i = 0; i < count; ++i) scratch.beam.offer(scratch.scores[i], scratch.rows[i]);
}

}  // namespace

void Scratch::reserve(std::size_t count) {
    if (rows.size() >= count) return;
    sums.resize(count);
    scores.resize(count);
    rows.resize(count);  // last: its size says that there is room in all three
}

void Visited::start(std::size_t count) {
    if (marks_.size() < count || now_ == 255) {
        marks_.assign(std::max(count, marks_.size()), 0);
        now_ = 0;
    }
    ++now_;
}

void Beam::start(std::size_t width) {
    width_ = width;
    size_ = at_ = 0;
    if (entries_.size() < width + 1) entries_.resize(width + 1);
}

void Beam::offer(float score, std::int32_t row) {
    // A NaN would break the order; its row comes last, so that it is still found where there is room.
    if (!(score == score)) score = -std::numeric_limits<float>::infinity();
    if (full() && !(score > entries_[size_ - 1].score)) return;
    std::size_t low = 0, high = size_;
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (entries_[middle].score >= score) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (!full()) ++size_;
    std::memmove(entries_.data() + low + 1, entries_.data() + low, (size_ - 1 - low) * sizeof(Met));
    entries_[low] = {score, row};
    at_ = std::min(at_, low);
}

std::size_t Beam::keep(const std::uint8_t *allow, std::size_t places) {
    std::size_t kept = 0, among = 0;
    for (std::size_t place = 0; place < size_; ++place) {
        if (allow[row(place)] == 0) continue;
        if (place < places) ++among;
        entries_[kept++] = entries_[place];
    }
    size_ = at_ = kept;
    return among;
}

std::int32_t Beam::next() {
    while (at_ < size_ && entries_[at_].row < 0) ++at_;
    if (at_ == size_) return -1;
    const std::int32_t row = entries_[at_].row;
    entries_[at_].row |= ~kRow;
    return row;
}

std::int32_t Beam::after() const {
    for (std::size_t place = at_; place < size_; ++place) {
        if (entries_[place].row >= 0) return entries_[place].row;
    }
    return -1;
}

void Best::start(std::size_t most) {
    constexpr std::size_t kGathered = 32;  // at least, before any are dropped
    entries_.clear();
    most_ = most;
    room_ = most + std::max(most, kGathered);
    entries_.reserve(room_);
    full_ = false;
}

void Best::settle() {
    if (entries_.size() < most_) return;
    const auto last = entries_.begin() + static_cast<std::ptrdiff_t>(most_) - 1;
    std::nth_element(entries_.begin(), last, entries_.end(), better);
    worst_ = *last;
    full_ = true;
    entries_.resize(most_);
}

float Best::least() {
    settle();
    return full_ ? worst_.score : std::min_element(entries_.begin(), entries_.end(), [](const Met &a, const Met &b) {
        return a.score < b.score;
    })->score;
}

const std::vector<Met> &Best::sorted() {
    settle();
    std::sort(entries_.begin(), entries_.end(), better);
    return entries_;
}

void walk(const Scores &scores, const Codes &codes, const Graph &graph, std::size_t width, Scratch &scratch) {
    scratch.reserve(std::max(graph.degree, graph.entry_count));
    scratch.visited.start(graph.count);
    scratch.beam.start(width);
    std::size_t found = 0;
    for (std::size_t i = 0; i < graph.entry_count; ++i) {
        if (!scratch.visited.mark(graph.entries[i])) scratch.rows[found++] = graph.entries[i];
    }
    offer_all(scores, codes, scratch, found);
    for (std::int32_t row = scratch.beam.next(); row >= 0; row = scratch.beam.next()) {
        const std::int32_t *neighbours = graph.of(row);
        found = 0;
        for (std::size_t i = 0; i < graph.degree && neighbours[i] >= 0; ++i) {
            if (!scratch.visited.mark(neighbours[i])) {
                codes.prefetch(neighbours[i]);
                scratch.rows[found++] = neighbours[i];
            }
        }
        const std::int32_t likely = scratch.beam.after();
        if (likely >= 0) {
            const auto *at = reinterpret_cast<const char *>(graph.of(likely));
            for (std::size_t i = 0; i < graph.degree * sizeof(std::int32_t); i += 64) __builtin_prefetch(at + i);
        }
        offer_all(scores, codes, scratch, found);
    }
}

}  // namespace vss
