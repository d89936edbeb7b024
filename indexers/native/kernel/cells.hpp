// Rows divided into cells by the nearest of some centres, and the cells of a query in the order of their centres.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "codes.hpp"
#include "scores.hpp"

namespace vss {

// `centres` in the form of the rows' codes; `of` has the cell of each row, `members` the rows of cell i, rising, from
// `starts[i]` to `starts[i + 1]`. The arrays belong to somebody else.
struct Cells {
    Codes centres;
    const std::uint16_t *of = nullptr;
    const std::int32_t *members = nullptr;
    const std::int32_t *starts = nullptr;

    std::size_t count() const { return centres.count; }
    std::size_t size(std::size_t cell) const { return static_cast<std::size_t>(starts[cell + 1] - starts[cell]); }
};

// What one thread needs to go from cell to cell; kept from query to query.
class Nearest {
  public:
    // All cells are left.
    void start(const Scores &scores, const Cells &cells, const Query &query);
    bool empty() const { return end_ == order_.size(); }
    // The nearest of the cells that are left, so many of them or all: `taken` has them until the next call.
    void take(std::size_t count);
    std::size_t taken() const { return end_ - begin_; }
    std::size_t cell(std::size_t place) const { return static_cast<std::size_t>(order_[begin_ + place].second); }

    std::vector<std::uint8_t> marks;    // a byte a cell, all 0 between two queries
    std::vector<std::uint8_t> near;     // a byte a block of sketches, whether it is looked at
    std::vector<std::int32_t> rows;     // what was found
    std::vector<float> extras;          // theirs
    std::vector<std::uint32_t> blocks;  // that hold their sketches

  private:
    std::vector<std::pair<float, std::int32_t>> order_;
    std::size_t begin_ = 0, end_ = 0, sorted_ = 0;  // the first `sorted_` are the nearest, in order
    std::vector<std::int32_t> sums_;
    std::vector<float> scores_;
};

}  // namespace vss
