// The arithmetic of the engine: one query against rows, in the instructions that this processor has.
//
// Every implementation gives the same integers for codes; float sums differ in their last bits, as their order does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace vss {

// Rows are padded to a multiple of this many components, so that no implementation has a tail to treat.
constexpr std::size_t kPad = 32;

// Rows whose sketches stand together.
constexpr std::size_t kBlock = 32;
// Rows of whose estimates the highest is noted: it tells of them all whether any will do.
constexpr std::size_t kGlance = 16;

// A half float's value.
inline float half_to_float(std::uint16_t half) {
    // Moving the exponent and multiplying by 2^112 makes subnormals right too.
    const std::uint32_t bits = static_cast<std::uint32_t>(half & 0x7fff) << 13;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    value *= 0x1p112F;
    // Infinity and what is no number have the largest exponent.
    using Limits = std::numeric_limits<float>;
    if (value >= 0x1p16F) value = value > 0x1p16F ? Limits::quiet_NaN() : Limits::infinity();
    return (half & 0x8000) != 0 ? -value : value;
}

// Four levels of a normal distribution (J. Max, "Quantizing for minimum distortion", 1960): where they change, and they.
constexpr float kChange = 0.9816F;
constexpr float kLevels[4] = {-1.510F, -0.4528F, 0.4528F, 1.510F};

// What makes an estimate of a sum.
struct Line {
    float step = 0, least = 0, rest = 0;
};

// A table of functions for one set of instructions. `rows` are row numbers; a null pointer means 0, 1, 2, ...
struct Scores {
    const char *name;
    // Products of unsigned 8-bit codes (128 stands for zero; the sum still holds 128 x the query's sum) and a signed
    // query of at most 7 bits (-64 to 64: pairs of products then fit 16 bits). `stride` bytes a row.
    void (*dot_u8)(const std::uint8_t *codes, std::size_t stride, const std::int8_t *query, const std::int32_t *rows,
                   std::size_t count, std::int32_t *out);
    // Inner products, and squared distances, of rows of `dim` IEEE half floats and a float query.
    void (*dot_f16)(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                    std::size_t count, float *out);
    void (*square_f16)(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                       std::size_t count, float *out);
    // Inner products, and squared distances, of float rows of `dim` components.
    void (*dot_f32)(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                    std::size_t count, float *out);
    void (*square_f32)(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                       std::size_t count, float *out);
    // The sketch of one row of codes: for every four of `dim` components a byte, `kBlock` bytes apart. What makes up for the
    // levels' being shorter than what they stand for is the answer.
    float (*sketched)(const std::uint8_t *code, const float *means, const float *spreads, std::size_t dim,
                      std::uint8_t *out);
    // For each of `count` blocks, `stride` bytes apart, `kBlock` sums of what its rows look up: for each of `groups`
    // bytes of a row one entry of a table by the lower half, one of the next table by the upper. Tables have 16 entries,
    // of which no two add up to more than 255.
    void (*looked_up)(const std::uint8_t *blocks, std::size_t stride, std::size_t groups, const std::uint8_t *tables,
                      std::size_t count, std::uint16_t *out);
    // Of `kBlock` such sums: factor x (sum x step + least) + rest + extra (null: none), and the highest of each `kGlance`.
    void (*estimated)(const std::uint16_t *sums, const float *factors, const float *extra, const Line &line, float *out,
                      float *highest);
    // Which of `kGlance` scores are not below `least`: the lowest bit is the first one's.
    std::uint32_t (*reaching)(const float *scores, float least);
};

// What this processor can run, the fastest first; the last one is portable C++.
const std::vector<const Scores *> &available_scores();

// One of them by its name ("avx512vnni", "avx2", "neon", "portable"); null when it cannot run here.
const Scores *scores_named(const char *name);

}  // namespace vss
