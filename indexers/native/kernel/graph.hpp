// A graph over coded rows, and the walk through it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "codes.hpp"
#include "scores.hpp"
#include "sketches.hpp"

namespace vss {

// `count` x `degree` neighbours, -1 behind the last one of a row; walks start at `entries`.
struct Graph {
    const std::int32_t *neighbours = nullptr;
    std::size_t count = 0, degree = 0;
    const std::int32_t *entries = nullptr;
    std::size_t entry_count = 0;

    const std::int32_t *of(std::int32_t row) const { return neighbours + static_cast<std::size_t>(row) * degree; }
};

// A row that a walk has met.
struct Met {
    float score;
    std::int32_t row;
};

// Rows met in this walk: one byte a row, wiped every 255 walks.
class Visited {
  public:
    void start(std::size_t count);
    // Marks the row; whether it was marked before.
    bool mark(std::int32_t row) {
        std::uint8_t &mark = marks_[static_cast<std::size_t>(row)];
        const bool before = mark == now_;
        mark = now_;
        return before;
    }

  private:
    std::vector<std::uint8_t> marks_;
    std::uint8_t now_ = 255;
};

// The best `width` rows met so far, best first (Fu et al. 2017, arXiv:1707.00143): a sorted array beats two heaps.
class Beam {
  public:
    // `width` is at least 1.
    void start(std::size_t width);
    // Takes a row in if it is good enough.
    void offer(float score, std::int32_t row);
    // The best row that was not expanded yet, marked as expanded; -1: none is left.
    std::int32_t next();
    // The row that `next` would give after this one, or -1.
    std::int32_t after() const;
    // Drops the rows that `allow` (a byte a row) does not let through; nothing can be expanded afterwards. How many of
    // those that are left were among the first `places`.
    std::size_t keep(const std::uint8_t *allow, std::size_t places);
    bool full() const { return size_ == width_; }
    std::size_t size() const { return size_; }
    float score(std::size_t place) const { return entries_[place].score; }
    std::int32_t row(std::size_t place) const { return entries_[place].row & kRow; }

  private:
    static constexpr std::int32_t kRow = 0x7fffffff;
    std::vector<Met> entries_;  // the sign bit of `row` marks expanded ones
    std::size_t width_ = 0, size_ = 0, at_ = 0;
};

// The best `most` rows offered, where all of them are known only at the end. What comes is gathered, and now and then
// the worse half of it is dropped: a heap would be put in order for each row. Of equal scores the smaller row is the
// better.
class Best {
  public:
    // `most` is at least 1.
    void start(std::size_t most);
    // Takes a row in if it may be good enough.
    void offer(float score, std::int32_t row) {
        // A NaN would break the order; its row comes last, so that it is still found where there is room.
        if (!(score == score)) score = -std::numeric_limits<float>::infinity();
        const Met one{score, row};
        if (full_ && !better(one, worst_)) return;
        entries_.push_back(one);
        if (entries_.size() == room_) settle();
    }
    // No row that scores less is taken in any more.
    float bar() const { return full_ ? worst_.score : -std::numeric_limits<float>::infinity(); }
    // The best, in no order.
    const std::vector<Met> &rows() {
        settle();
        return entries_;
    }
    // The best first; nothing can be offered afterwards.
    const std::vector<Met> &sorted();
    // The score of the worst of the best; there is one.
    float least();

  private:
    static bool better(const Met &a, const Met &b) { return a.score != b.score ? a.score > b.score : a.row < b.row; }
    // Drops all but the best.
    void settle();

    std::vector<Met> entries_;
    std::size_t most_ = 0, room_ = 0;
    Met worst_{};  // of the best, as of the last time that others were dropped
    bool full_ = false;
};

// What one thread needs for its walks and scans; kept from query to query.
struct Scratch {
    Visited visited;
    Beam beam;
    Best coded, exact;  // the best by codes that a scan has found, and the best by exact scores
    Query query;
    SketchQuery sketch;
    std::vector<std::int32_t> rows, sums;
    std::vector<float> scores, estimates, highest, bars;

    // Makes room for so many rows at once.
    void reserve(std::size_t count);
};

// From the entries to the `width` best rows that a greedy walk finds; they are left in `scratch.beam`.
void walk(const Scores &scores, const Codes &codes, const Graph &graph, std::size_t width, Scratch &scratch);

}  // namespace vss
