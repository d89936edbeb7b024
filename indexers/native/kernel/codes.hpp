// Vectors as codes, and a query prepared for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "scores.hpp"

namespace vss {

enum class Form { kU8, kF16 };

// `count` rows of `stride` components: u8 codes hold round(128 + scale * (x - centre)), halves hold the same without
// the 128. The arrays belong to somebody else.
struct Codes {
    Form form = Form::kU8;
    const void *data = nullptr;
    std::size_t count = 0, dim = 0, stride = 0;
    float scale = 1;
    const float *centre = nullptr;  // `dim` floats; null: the origin
    const float *extra = nullptr;   // `count` floats that are added to the rows' scores; null: none

    std::size_t bytes() const { return stride * (form == Form::kU8 ? 1 : 2); }
    // Inlined always: where it was not, GCC once took it for a function without effects and dropped the calls.
    __attribute__((always_inline)) void prefetch(std::int32_t row) const {
        const char *at = static_cast<const char *>(data) + static_cast<std::size_t>(row) * bytes();
        for (std::size_t i = 0; i < bytes(); i += 64) __builtin_prefetch(at + i);
        if (extra != nullptr) __builtin_prefetch(extra + row);
    }
};

// A query in the form that the codes want: higher scores are better, and differ from the true ones by a constant.
class Query {
  public:
    // `vector`: `dim` floats, from which the centre is taken off. What is not finite counts as zero.
    void prepare(const Codes &codes, const float *vector);
    // Scores of rows (null: 0, 1, 2, ...). `scratch` has room for `count`.
    void score(const Scores &scores, const Codes &codes, const std::int32_t *rows, std::size_t count,
               std::int32_t *scratch, float *out) const;

    // The vector, its centre taken off, padded to the codes' stride.
    const float *floats() const { return floats_; }

  private:
    friend class RowQueries;

    std::vector<std::int8_t> own_signed_;
    std::vector<float> own_floats_;
    const std::int8_t *signed_ = nullptr;
    const float *floats_ = nullptr;
    float factor_ = 0;
    std::int32_t offset_ = 0;
};

// Every row of some codes in the form of a query, which a build asks for many times.
class RowQueries {
  public:
    explicit RowQueries(const Codes &codes);
    // Lets `query` be this row; it points into this object.
    void ask(std::int32_t row, Query &query) const;

  private:
    Codes codes_;
    std::vector<std::int8_t> signed_;
    std::vector<float> factors_;
    std::vector<std::int32_t> offsets_;
};

}  // namespace vss
