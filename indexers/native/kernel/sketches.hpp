// Two bits a component: what most rows of a scan can be ruled out by, in a quarter of the memory of their codes.
//
// Each component is one of four levels around its mean over the rows, those with the least squared error for a normal
// distribution. Levels lie nearer to the mean than what they stand for, so a row's product with them is too short; a
// factor for each row makes up for it, after which the error has no direction (the estimator of RaBitQ: J. Gao, C. Long,
// SIGMOD 2024). A query becomes tables of 16 values, one for each pair of components, which are looked up for 32 rows
// at once in registers (F. André, A.-M. Kermarrec, N. Le Scouarnec, "Cache locality is not enough", VLDB 2015).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codes.hpp"
#include "scores.hpp"

namespace vss {

// Blocks of `kBlock` rows each: for every four components a byte a row (the first two in its lower half), then the rows'
// factors as floats. The arrays belong to somebody else.
struct Sketches {
    const std::uint8_t *blocks = nullptr;  // null: there are none
    const float *means = nullptr, *spreads = nullptr;  // `dim` each, of the codes' components
    std::size_t dim = 0;

    std::size_t groups() const { return (dim + 3) / 4; }
    std::size_t bytes() const { return kBlock * (groups() + sizeof(float)); }
    const std::uint8_t *block(std::size_t at) const { return blocks + at * bytes(); }
};

// Writes the sketches of rows `first` to `first + count - 1` of u8 codes to their places in `blocks`. A row has bytes of
// its own, so that others may be read meanwhile.
void sketch(const Scores &scores, const Codes &codes, const float *means, const float *spreads, std::size_t first,
            std::size_t count, std::uint8_t *blocks);
// The same of listed rows, each to the place that it has in the list.
void sketch_listed(const Scores &scores, const Codes &codes, const float *means, const float *spreads,
                   const std::int32_t *rows, std::size_t count, std::uint8_t *blocks);

// A query as tables.
class SketchQuery {
  public:
    // `query` was prepared for the codes.
    void prepare(const Sketches &sketches, const Codes &codes, const Query &query);
    // Into `out` about what `Query::score` gives for the `count` rows of these blocks (null: from that of row `first` on,
    // a multiple of `kBlock`), and into `highest` the highest of each `kGlance` of them. Both have room for whole blocks;
    // beyond `count` stands -inf.
    // extras: of the codes, for each of these rows; null: none
    void estimate(const Scores &scores, const Sketches &sketches, const float *extras, const std::uint32_t *blocks,
                  std::size_t first, std::size_t count, float *out, float *highest) const;

  private:
    std::vector<std::uint8_t> tables_;
    Line line_;
};

}  // namespace vss
