#include "sketches.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace vss {
namespace {

// Two entries are added as bytes.
constexpr float kMostEntry = 127;
// And all that a row looks up as two bytes.
constexpr float kMostSum = 65535;

constexpr std::size_t kPairEntries = 16;

// The sketch of one row of codes to its place in its block.
void sketch_row(const Scores &scores, const std::uint8_t *code, const Sketches &shape, std::size_t place,
                std::uint8_t *block) {
    const float factor = scores.sketched(code, shape.means, shape.spreads, shape.dim, block + place);
    std::memcpy(block + shape.groups() * kBlock + place * sizeof factor, &factor, sizeof factor);
}

}  // namespace

void sketch(const Scores &scores, const Codes &codes, const float *means, const float *spreads, std::size_t first,
            std::size_t count, std::uint8_t *blocks) {
    const Sketches shape{blocks, means, spreads, codes.dim};
    for (std::size_t row = first; row < first + count; ++row) {
        const auto *code = static_cast<const std::uint8_t *>(codes.data) + row * codes.stride;
        sketch_row(scores, code, shape, row % kBlock, blocks + row / kBlock * shape.bytes());
    }
}

void sketch_listed(const Scores &scores, const Codes &codes, const float *means, const float *spreads,
                   const std::int32_t *rows, std::size_t count, std::uint8_t *blocks) {
    constexpr std::size_t kAhead = 8;
    const Sketches shape{blocks, means, spreads, codes.dim};
    for (std::size_t i = 0; i < count; ++i) {
        if (i + kAhead < count) codes.prefetch(rows[i + kAhead]);
        const auto *code = static_cast<const std::uint8_t *>(codes.data) + static_cast<std::size_t>(rows[i]) * codes.stride;
        sketch_row(scores, code, shape, i % kBlock, blocks + i / kBlock * shape.bytes());
    }
}

void SketchQuery::prepare(const Sketches &sketches, const Codes &codes, const Query &query) {
    const std::size_t groups = sketches.groups(), pairs = 2 * groups;
    const float *vector = query.floats();
    // A pair's entries lie between minus and plus the sum of what its components are at most.
    const auto most = [&](std::size_t i) {
        return i < sketches.dim ? std::fabs(vector[i]) * sketches.spreads[i] * kLevels[3] : 0.0F;
    };
    float widest = 0, sum = 0, middle = 0;
    for (std::size_t i = 0; i < 2 * pairs; i += 2) {
        const float both = most(i) + most(i + 1);
        widest = std::max(widest, both);
        sum += both;
    }
    for (std::size_t i = 0; i < sketches.dim; ++i) middle += vector[i] * sketches.means[i];
    const float entries = std::min(kMostEntry, std::floor(kMostSum / static_cast<float>(pairs)));
    float steps = widest > 0 ? entries / (2 * widest) : 0.0F;
    if (!std::isfinite(steps)) steps = 0;
    tables_.assign(pairs * kPairEntries, 0);
    line_ = {0, 0, middle / codes.scale};
    if (!(steps > 0)) return;
    for (std::size_t pair = 0; pair < pairs; ++pair) {
        const std::size_t one = 2 * pair, other = one + 1;
        const float a = one < sketches.dim ? vector[one] * sketches.spreads[one] * steps : 0;
        const float b = other < sketches.dim ? vector[other] * sketches.spreads[other] * steps : 0;
        const float base = (std::fabs(a) + std::fabs(b)) * kLevels[3] + 0.5F;
        for (std::size_t i = 0; i < 4; ++i) {
            for (std::size_t j = 0; j < 4; ++j) {
                const auto entry = static_cast<std::int32_t>(base + a * kLevels[j] + b * kLevels[i]);
                tables_[pair * kPairEntries + 4 * i + j] = static_cast<std::uint8_t>(entry);
            }
        }
    }
    line_.step = 1 / steps / codes.scale;
    line_.least = -sum / codes.scale;
}

void SketchQuery::estimate(const Scores &scores, const Sketches &sketches, const float *extras,
                           const std::uint32_t *listed, std::size_t first, std::size_t count, float *out,
                           float *highest) const {
    constexpr std::size_t kBlocks = 8;
    constexpr float kNothing = -std::numeric_limits<float>::infinity();
    std::uint16_t sums[kBlocks * kBlock];
    float factors[kBlock], extra[kBlock];
    const std::size_t groups = sketches.groups(), blocks = (count + kBlock - 1) / kBlock;
    for (std::size_t start = 0, some = 0; start < blocks; start += some) {
        some = std::min(kBlocks, blocks - start);
        std::size_t number = first / kBlock + start;
        if (listed != nullptr) {
            number = listed[start];
            std::size_t run = 1;
            while (run < some && listed[start + run] == number + run) ++run;
            some = run;
        }
        const std::uint8_t *block = sketches.block(number);
        scores.looked_up(block, sketches.bytes(), groups, tables_.data(), some, sums);
        for (std::size_t i = 0; i < some; ++i, block += sketches.bytes()) {
            const std::size_t row = (start + i) * kBlock;
            std::memcpy(factors, block + groups * kBlock, sizeof factors);
            const float *more = extras == nullptr ? nullptr : extras + row;
            if (more != nullptr && row + kBlock > count) {
                std::fill(std::copy(more, more + (count - row), extra), extra + kBlock, kNothing);
                more = extra;
            }
            scores.estimated(sums + i * kBlock, factors, more, line_, out + row, highest + row / kGlance);
        }
    }
    // What stands behind the last row is none.
    std::fill(out + count, out + blocks * kBlock, kNothing);
    for (std::size_t at = count / kGlance; at < blocks * kBlock / kGlance; ++at) {
        highest[at] = *std::max_element(out + at * kGlance, out + (at + 1) * kGlance);
    }
}

}  // namespace vss
