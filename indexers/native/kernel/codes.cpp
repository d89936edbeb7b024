#include "codes.hpp"

#include <algorithm>
#include <cmath>

namespace vss {
namespace {

constexpr float kQueryLevels = 64;  // see Scores::dot_u8

}  // namespace

void Query::prepare(const Codes &codes, const float *vector) {
    own_floats_.assign(codes.stride, 0.0F);
    float largest = 0;
    for (std::size_t i = 0; i < codes.dim; ++i) {
        float value = vector[i] - (codes.centre != nullptr ? codes.centre[i] : 0.0F);
        if (!std::isfinite(value)) value = 0;
        own_floats_[i] = value;
        largest = std::max(largest, std::fabs(value));
    }
    floats_ = own_floats_.data();
    if (codes.form == Form::kF16) {
        factor_ = 1 / codes.scale;
        return;
    }
    own_signed_.assign(codes.stride, 0);
    const float levels = largest > 0 ? kQueryLevels / largest : 0.0F;
    offset_ = 0;
    if (std::isfinite(levels)) {
        for (std::size_t i = 0; i < codes.dim; ++i) {
            own_signed_[i] = static_cast<std::int8_t>(std::lrint(own_floats_[i] * levels));
            offset_ += own_signed_[i];
        }
    }
    signed_ = own_signed_.data();
    offset_ *= 128;
    factor_ = largest / (kQueryLevels * codes.scale);
}

void Query::score(const Scores &scores, const Codes &codes, const std::int32_t *rows, std::size_t count,
                  std::int32_t *scratch, float *out) const {
    if (codes.form == Form::kU8) {
        scores.dot_u8(static_cast<const std::uint8_t *>(codes.data), codes.stride, signed_, rows, count, scratch);
        for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(scratch[i] - offset_) * factor_;
    } else {
        scores.dot_f16(static_cast<const std::uint16_t *>(codes.data), codes.stride, floats_, rows, count, out);
        for (std::size_t i = 0; i < count; ++i) out[i] *= factor_;
    }
    if (codes.extra == nullptr) return;
    for (std::size_t i = 0; i < count; ++i) {
        out[i] += codes.extra[rows == nullptr ? i : static_cast<std::size_t>(rows[i])];
    }
}

RowQueries::RowQueries(const Codes &codes) : codes_(codes) {
    if (codes.form == Form::kF16) return;
    signed_.resize(codes.count * codes.stride);
    factors_.resize(codes.count);
    offsets_.resize(codes.count);
    for (std::size_t row = 0; row < codes.count; ++row) {
        const auto *code = static_cast<const std::uint8_t *>(codes.data) + row * codes.stride;
        std::int8_t *into = signed_.data() + row * codes.stride;
        int largest = 1;
        for (std::size_t i = 0; i < codes.stride; ++i) largest = std::max(largest, std::abs(code[i] - 128));
        const float levels = kQueryLevels / static_cast<float>(largest);
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < codes.stride; ++i) {
            into[i] = static_cast<std::int8_t>(std::lrint(static_cast<float>(code[i] - 128) * levels));
            sum += into[i];
        }
        offsets_[row] = 128 * sum;
        factors_[row] = 1 / (levels * codes.scale * codes.scale);
    }
}

void RowQueries::ask(std::int32_t row, Query &query) const {
    const auto at = static_cast<std::size_t>(row);
    if (codes_.form == Form::kU8) {
        query.signed_ = signed_.data() + at * codes_.stride;
        query.factor_ = factors_[at];
        query.offset_ = offsets_[at];
        return;
    }
    const auto *code = static_cast<const std::uint16_t *>(codes_.data) + at * codes_.stride;
    query.own_floats_.resize(codes_.stride);
    for (std::size_t i = 0; i < codes_.stride; ++i) query.own_floats_[i] = half_to_float(code[i]);
    query.floats_ = query.own_floats_.data();
    query.factor_ = 1 / (codes_.scale * codes_.scale);
}

}  // namespace vss
