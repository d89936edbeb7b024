#include "scores.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
// GCC 12's own headers leave a register undefined on purpose (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#define VSS_X86 1
#elif defined(__aarch64__) && defined(__GNUC__) && defined(__linux__)
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define VSS_NEON 1
#endif

namespace vss {
namespace {

inline std::size_t row_at(const std::int32_t *rows, std::size_t i) {
    return rows == nullptr ? i : static_cast<std::size_t>(rows[i]);
}

// Sketches are stored: every processor adds in the same order, in so many sums at a time.
constexpr std::size_t kLanes = 8;

float factor_of(const float *squares, const float *products) {
    float square = 0, product = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        square += squares[lane];
        product += products[lane];
    }
    return product > 0 ? square / product : 1;
}

namespace portable {

void dot_u8(const std::uint8_t *codes, std::size_t stride, const std::int8_t *query, const std::int32_t *rows,
            std::size_t count, std::int32_t *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t *code = codes + row_at(rows, i) * stride;
        std::int32_t sum = 0;
        for (std::size_t j = 0; j < stride; ++j) sum += static_cast<std::int32_t>(code[j]) * query[j];
        out[i] = sum;
    }
}

void dot_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
             std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        float sum = 0;
        for (std::size_t j = 0; j < dim; ++j) sum += half_to_float(row[j]) * query[j];
        out[i] = sum;
    }
}

void square_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        float sum = 0;
        for (std::size_t j = 0; j < dim; ++j) {
            const float difference = half_to_float(row[j]) - query[j];
            sum += difference * difference;
        }
        out[i] = sum;
    }
}

void dot_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows, std::size_t count,
             float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        float sum = 0;
        for (std::size_t j = 0; j < dim; ++j) sum += row[j] * query[j];
        out[i] = sum;
    }
}

void square_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows, std::size_t count,
                float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        float sum = 0;
        for (std::size_t j = 0; j < dim; ++j) {
            const float difference = row[j] - query[j];
            sum += difference * difference;
        }
        out[i] = sum;
    }
}

float sketched(const std::uint8_t *code, const float *means, const float *spreads, std::size_t dim,
               std::uint8_t *out) {
    float squares[kLanes] = {}, products[kLanes] = {};
    for (std::size_t i = 0; i < dim; ++i) {
        const float value = static_cast<float>(code[i]) - 128 - means[i], far = std::fabs(value);
        const bool outer = far >= kChange * spreads[i], positive = value >= 0;
        const unsigned level = positive ? 2U + static_cast<unsigned>(outer) : static_cast<unsigned>(!outer);
        std::uint8_t &byte = out[i / 4 * kBlock];
        byte = static_cast<std::uint8_t>((i % 4 == 0 ? 0U : byte) | level << 2 * (i % 4));
        squares[i % kLanes] += value * value;
        products[i % kLanes] += far * (outer ? kLevels[3] : kLevels[2]) * spreads[i];
    }
    return factor_of(squares, products);
}

void looked_up(const std::uint8_t *blocks, std::size_t stride, std::size_t groups, const std::uint8_t *tables,
               std::size_t count, std::uint16_t *out) {
    for (std::size_t block = 0; block < count; ++block, out += kBlock) {
        std::uint32_t sums[kBlock] = {};
        const std::uint8_t *at = blocks + block * stride, *table = tables;
        for (std::size_t group = 0; group < groups; ++group, at += kBlock, table += 32) {
            for (std::size_t row = 0; row < kBlock; ++row) sums[row] += table[at[row] & 15U] + table[16 + (at[row] >> 4)];
        }
        for (std::size_t row = 0; row < kBlock; ++row) out[row] = static_cast<std::uint16_t>(sums[row]);
    }
}

void estimated(const std::uint16_t *sums, const float *factors, const float *extra, const Line &line, float *out,
               float *highest) {
    for (std::size_t i = 0; i < kBlock; ++i) {
        out[i] = factors[i] * (static_cast<float>(sums[i]) * line.step + line.least) + line.rest;
        if (extra != nullptr) out[i] += extra[i];
    }
    for (std::size_t i = 0; i < kBlock; i += kGlance) highest[i / kGlance] = *std::max_element(out + i, out + i + kGlance);
}

std::uint32_t reaching(const float *scores, float least) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < kGlance; ++i) bits |= static_cast<std::uint32_t>(!(scores[i] < least)) << i;
    return bits;
}

constexpr Scores kTable{"portable", dot_u8,   dot_f16,   square_f16, dot_f32,
                        square_f32, sketched, looked_up, estimated,  reaching};

}  // namespace portable

#ifdef VSS_X86

namespace avx2 {

#define VSS_AVX2 __attribute__((target("avx2,fma,f16c")))

VSS_AVX2 inline __m256i products(const std::uint8_t *code, __m256i query, __m256i ones, __m256i sum) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(code)), query);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
}

VSS_AVX2 void dot_u8(const std::uint8_t *codes, std::size_t stride, const std::int8_t *query, const std::int32_t *rows,
                     std::size_t count, std::int32_t *out) {
    const __m256i ones = _mm256_set1_epi16(1);
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const std::uint8_t *a = codes + row_at(rows, i) * stride;
        const std::uint8_t *b = codes + row_at(rows, i + 1) * stride;
        const std::uint8_t *c = codes + row_at(rows, i + 2) * stride;
        const std::uint8_t *d = codes + row_at(rows, i + 3) * stride;
        __m256i sum_a = _mm256_setzero_si256(), sum_b = sum_a, sum_c = sum_a, sum_d = sum_a;
        for (std::size_t j = 0; j < stride; j += 32) {
            const __m256i part = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(query + j));
            sum_a = products(a + j, part, ones, sum_a);
            sum_b = products(b + j, part, ones, sum_b);
            sum_c = products(c + j, part, ones, sum_c);
            sum_d = products(d + j, part, ones, sum_d);
        }
        const __m256i sums =
            _mm256_hadd_epi32(_mm256_hadd_epi32(sum_a, sum_b), _mm256_hadd_epi32(sum_c, sum_d));
        const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + i), four);
    }
    for (; i < count; ++i) {
        const std::uint8_t *a = codes + row_at(rows, i) * stride;
        __m256i sum = _mm256_setzero_si256();
        for (std::size_t j = 0; j < stride; j += 32) {
            sum = products(a + j, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(query + j)), ones, sum);
        }
        __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        half = _mm_hadd_epi32(half, half);
        half = _mm_hadd_epi32(half, half);
        out[i] = _mm_cvtsi128_si32(half);
    }
}

VSS_AVX2 inline float sum_of(__m256 a, __m256 b) {
    const __m256 both = _mm256_add_ps(a, b);
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    half = _mm_hadd_ps(half, half);
    half = _mm_hadd_ps(half, half);
    return _mm_cvtss_f32(half);
}

VSS_AVX2 inline __m256 halves(const std::uint16_t *row) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(row)));
}

VSS_AVX2 void dot_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                      std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        __m256 a = _mm256_setzero_ps(), b = a;
        std::size_t j = 0;
        for (; j + 16 <= dim; j += 16) {
            a = _mm256_fmadd_ps(halves(row + j), _mm256_loadu_ps(query + j), a);
            b = _mm256_fmadd_ps(halves(row + j + 8), _mm256_loadu_ps(query + j + 8), b);
        }
        float sum = sum_of(a, b);
        for (; j < dim; ++j) sum += half_to_float(row[j]) * query[j];
        out[i] = sum;
    }
}

VSS_AVX2 void square_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                         std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        __m256 a = _mm256_setzero_ps(), b = a;
        std::size_t j = 0;
        for (; j + 16 <= dim; j += 16) {
            const __m256 first = _mm256_sub_ps(halves(row + j), _mm256_loadu_ps(query + j));
            const __m256 second = _mm256_sub_ps(halves(row + j + 8), _mm256_loadu_ps(query + j + 8));
            a = _mm256_fmadd_ps(first, first, a);
            b = _mm256_fmadd_ps(second, second, b);
        }
        float sum = sum_of(a, b);
        for (; j < dim; ++j) {
            const float difference = half_to_float(row[j]) - query[j];
            sum += difference * difference;
        }
        out[i] = sum;
    }
}

VSS_AVX2 void dot_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                      std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        __m256 a = _mm256_setzero_ps(), b = a;
        std::size_t j = 0;
        for (; j + 16 <= dim; j += 16) {
            a = _mm256_fmadd_ps(_mm256_loadu_ps(row + j), _mm256_loadu_ps(query + j), a);
            b = _mm256_fmadd_ps(_mm256_loadu_ps(row + j + 8), _mm256_loadu_ps(query + j + 8), b);
        }
        float sum = sum_of(a, b);
        for (; j < dim; ++j) sum += row[j] * query[j];
        out[i] = sum;
    }
}

VSS_AVX2 void square_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                         std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        __m256 a = _mm256_setzero_ps(), b = a;
        std::size_t j = 0;
        for (; j + 16 <= dim; j += 16) {
            const __m256 first = _mm256_sub_ps(_mm256_loadu_ps(row + j), _mm256_loadu_ps(query + j));
            const __m256 second = _mm256_sub_ps(_mm256_loadu_ps(row + j + 8), _mm256_loadu_ps(query + j + 8));
            a = _mm256_fmadd_ps(first, first, a);
            b = _mm256_fmadd_ps(second, second, b);
        }
        float sum = sum_of(a, b);
        for (; j < dim; ++j) sum += (row[j] - query[j]) * (row[j] - query[j]);
        out[i] = sum;
    }
}

// One block's even and odd rows.
struct Rows {
    __m256i even, odd;
};

VSS_AVX2 inline void look_up(const std::uint8_t *at, __m256i lower, __m256i upper, Rows &rows) {
    const __m256i nibble = _mm256_set1_epi8(15), bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at));
    const __m256i first = _mm256_shuffle_epi8(lower, _mm256_and_si256(bytes, nibble));
    const __m256i second = _mm256_shuffle_epi8(upper, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
    const __m256i both = _mm256_add_epi8(first, second);
    rows.even = _mm256_add_epi16(rows.even, _mm256_and_si256(both, _mm256_set1_epi16(255)));
    rows.odd = _mm256_add_epi16(rows.odd, _mm256_srli_epi16(both, 8));
}

VSS_AVX2 inline void store(const Rows &rows, std::uint16_t *out) {
    const __m256i low = _mm256_unpacklo_epi16(rows.even, rows.odd), high = _mm256_unpackhi_epi16(rows.even, rows.odd);
    auto *to = reinterpret_cast<__m256i *>(out);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

VSS_AVX2 inline __m256i twice(const std::uint8_t *table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(table)));
}

VSS_AVX2 void looked_up(const std::uint8_t *blocks, std::size_t stride, std::size_t groups,
                        const std::uint8_t *tables, std::size_t count, std::uint16_t *out) {
    const Rows none{_mm256_setzero_si256(), _mm256_setzero_si256()};
    std::size_t block = 0;
    for (; block + 2 <= count; block += 2, blocks += 2 * stride, out += 2 * kBlock) {
        Rows a = none, b = none;
        for (std::size_t group = 0; group < groups; ++group) {
            const __m256i lower = twice(tables + 32 * group), upper = twice(tables + 32 * group + 16);
            look_up(blocks + group * kBlock, lower, upper, a);
            look_up(blocks + stride + group * kBlock, lower, upper, b);
        }
        store(a, out);
        store(b, out + kBlock);
    }
    if (block == count) return;
    Rows a = none;
    for (std::size_t group = 0; group < groups; ++group) {
        look_up(blocks + group * kBlock, twice(tables + 32 * group), twice(tables + 32 * group + 16), a);
    }
    store(a, out);
}

VSS_AVX2 void estimated(const std::uint16_t *sums, const float *factors, const float *extra, const Line &line, float *out,
               float *highest) {
    const __m256 step = _mm256_set1_ps(line.step), least = _mm256_set1_ps(line.least), rest = _mm256_set1_ps(line.rest);
    for (std::size_t start = 0; start < kBlock; start += kGlance) {
        __m256 most = _mm256_setzero_ps();
        for (std::size_t i = start; i < start + kGlance; i += 8) {
            const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i *>(sums + i));
            const __m256 sum = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(eight));
            const __m256 scaled = _mm256_add_ps(_mm256_mul_ps(sum, step), least);
            __m256 one = _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(factors + i), scaled), rest);
            if (extra != nullptr) one = _mm256_add_ps(one, _mm256_loadu_ps(extra + i));
            _mm256_storeu_ps(out + i, one);
            most = i == start ? one : _mm256_max_ps(most, one);
        }
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        highest[start / kGlance] = _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
    }
}

VSS_AVX2 std::uint32_t reaching(const float *scores, float least) {
    const __m256 bar = _mm256_set1_ps(least);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < kGlance; i += 8) {
        const __m256 not_below = _mm256_cmp_ps(_mm256_loadu_ps(scores + i), bar, _CMP_NLT_UQ);
        bits |= static_cast<std::uint32_t>(_mm256_movemask_ps(not_below)) << i;
    }
    return bits;
}

// The bits of two bytes in turn, the lowest of `even` first.
inline std::uint32_t in_turn(std::uint32_t even, std::uint32_t odd) {
    std::uint64_t both = even | static_cast<std::uint64_t>(odd) << 32U;
    both = (both | both << 4U) & 0x00000f0f00000f0fU;
    both = (both | both << 2U) & 0x0000333300003333U;
    both = (both | both << 1U) & 0x0000555500005555U;
    return static_cast<std::uint32_t>(both | both >> 31U);
}

VSS_AVX2 float sketched(const std::uint8_t *code, const float *means, const float *spreads, std::size_t dim,
                        std::uint8_t *out) {
    const __m256 zero = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0F), middle = _mm256_set1_ps(128);
    const __m256 change = _mm256_set1_ps(kChange), inner = _mm256_set1_ps(kLevels[2]), most = _mm256_set1_ps(kLevels[3]);
    __m256 squares = zero, products = zero;
    float rest[16] = {};
    for (std::size_t i = 0; i < dim; i += 8) {
        const std::size_t size = std::min<std::size_t>(8, dim - i);
        const float *mean = means + i, *spread = spreads + i;
        std::uint32_t valid = 0xff;
        __m256 lanes = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
        if (size < 8) {
            std::copy(mean, mean + size, rest);
            std::copy(spread, spread + size, rest + 8);
            mean = rest;
            spread = rest + 8;
            valid = (1U << size) - 1;
            const __m256i numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            lanes = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(size)), numbers));
        }
        // Rows are padded: eight bytes are there.
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(code + i));
        const __m256 coded = _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), middle);
        const __m256 value = _mm256_and_ps(_mm256_sub_ps(coded, _mm256_loadu_ps(mean)), lanes);
        const __m256 far = _mm256_andnot_ps(sign, value), wide = _mm256_loadu_ps(spread);
        const __m256 outer = _mm256_cmp_ps(far, _mm256_mul_ps(change, wide), _CMP_GE_OQ);
        const auto out_bits = static_cast<std::uint32_t>(_mm256_movemask_ps(outer));
        const auto above = static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(value, zero, _CMP_GE_OQ)));
        const std::uint32_t levels = in_turn(~(above ^ out_bits) & valid, above & valid);
        out[i / 4 * kBlock] = static_cast<std::uint8_t>(levels);
        if (size > 4) out[(i / 4 + 1) * kBlock] = static_cast<std::uint8_t>(levels >> 8U);
        const __m256 level = _mm256_mul_ps(far, _mm256_blendv_ps(inner, most, outer));
        squares = _mm256_add_ps(squares, _mm256_mul_ps(value, value));
        products = _mm256_add_ps(products, _mm256_mul_ps(level, wide));
    }
    float square[kLanes], product[kLanes];
    _mm256_storeu_ps(square, squares);
    _mm256_storeu_ps(product, products);
    return factor_of(square, product);
}

constexpr Scores kTable{"avx2",     dot_u8,   dot_f16,   square_f16, dot_f32,
                        square_f32, sketched, looked_up, estimated,  reaching};

bool runs() {
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
           __builtin_cpu_supports("f16c") != 0;
}

}  // namespace avx2

namespace avx512 {

#define VSS_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))

// The last 32 of a row's bytes may lie alone: they are read under a mask, as zeros beyond.
VSS_AVX512 inline __mmask64 lanes(std::size_t left) {
    return left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
}

VSS_AVX512 void dot_u8(const std::uint8_t *codes, std::size_t stride, const std::int8_t *query,
                       const std::int32_t *rows, std::size_t count, std::int32_t *out) {
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const std::uint8_t *a = codes + row_at(rows, i) * stride;
        const std::uint8_t *b = codes + row_at(rows, i + 1) * stride;
        const std::uint8_t *c = codes + row_at(rows, i + 2) * stride;
        const std::uint8_t *d = codes + row_at(rows, i + 3) * stride;
        __m512i sum_a = _mm512_setzero_si512(), sum_b = sum_a, sum_c = sum_a, sum_d = sum_a;
        for (std::size_t j = 0; j < stride; j += 64) {
            const __mmask64 mask = lanes(stride - j);
            const __m512i part = _mm512_maskz_loadu_epi8(mask, query + j);
            sum_a = _mm512_dpbusd_epi32(sum_a, _mm512_maskz_loadu_epi8(mask, a + j), part);
            sum_b = _mm512_dpbusd_epi32(sum_b, _mm512_maskz_loadu_epi8(mask, b + j), part);
            sum_c = _mm512_dpbusd_epi32(sum_c, _mm512_maskz_loadu_epi8(mask, c + j), part);
            sum_d = _mm512_dpbusd_epi32(sum_d, _mm512_maskz_loadu_epi8(mask, d + j), part);
        }
        out[i] = _mm512_reduce_add_epi32(sum_a);
        out[i + 1] = _mm512_reduce_add_epi32(sum_b);
        out[i + 2] = _mm512_reduce_add_epi32(sum_c);
        out[i + 3] = _mm512_reduce_add_epi32(sum_d);
    }
    for (; i < count; ++i) {
        const std::uint8_t *a = codes + row_at(rows, i) * stride;
        __m512i sum = _mm512_setzero_si512();
        for (std::size_t j = 0; j < stride; j += 64) {
            const __mmask64 mask = lanes(stride - j);
            sum = _mm512_dpbusd_epi32(sum, _mm512_maskz_loadu_epi8(mask, a + j),
                                      _mm512_maskz_loadu_epi8(mask, query + j));
        }
        out[i] = _mm512_reduce_add_epi32(sum);
    }
}

VSS_AVX512 inline __mmask16 floats(std::size_t left) {
    return left >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1U << left) - 1);
}

VSS_AVX512 inline __m512 halves(__mmask16 mask, const std::uint16_t *row) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row));
}

VSS_AVX512 void dot_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                        std::size_t count, float *out) {
    constexpr __mmask16 kAll = 0xffff;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        __m512 a = _mm512_setzero_ps(), b = a;
        std::size_t j = 0;
        for (; j + 32 <= dim; j += 32) {
            a = _mm512_fmadd_ps(halves(kAll, row + j), _mm512_loadu_ps(query + j), a);
            b = _mm512_fmadd_ps(halves(kAll, row + j + 16), _mm512_loadu_ps(query + j + 16), b);
        }
        for (; j < dim; j += 16) {
            const __mmask16 mask = floats(dim - j);
            a = _mm512_fmadd_ps(halves(mask, row + j), _mm512_maskz_loadu_ps(mask, query + j), a);
        }
        out[i] = _mm512_reduce_add_ps(_mm512_add_ps(a, b));
    }
}

VSS_AVX512 void square_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                           std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t j = 0; j < dim; j += 16) {
            const __mmask16 mask = floats(dim - j);
            const __m512 difference = _mm512_sub_ps(halves(mask, row + j), _mm512_maskz_loadu_ps(mask, query + j));
            sum = _mm512_fmadd_ps(difference, difference, sum);
        }
        out[i] = _mm512_reduce_add_ps(sum);
    }
}

VSS_AVX512 void dot_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                        std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t j = 0; j < dim; j += 16) {
            const __mmask16 mask = floats(dim - j);
            sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, row + j), _mm512_maskz_loadu_ps(mask, query + j), sum);
        }
        out[i] = _mm512_reduce_add_ps(sum);
    }
}

VSS_AVX512 void square_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                           std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t j = 0; j < dim; j += 16) {
            const __mmask16 mask = floats(dim - j);
            const __m512 difference =
                _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, row + j), _mm512_maskz_loadu_ps(mask, query + j));
            sum = _mm512_fmadd_ps(difference, difference, sum);
        }
        out[i] = _mm512_reduce_add_ps(sum);
    }
}

// Whoever has those instructions has these.
constexpr Scores kTable{"avx512vnni", dot_u8,          dot_f16,         square_f16, dot_f32, square_f32,
                        avx2::sketched, avx2::looked_up, avx2::estimated, avx2::reaching};

bool runs() {
    return avx2::runs() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}

}  // namespace avx512

#endif  // VSS_X86

#ifdef VSS_NEON

namespace neon {

#define VSS_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))

VSS_DOTPROD void dot_u8(const std::uint8_t *codes, std::size_t stride, const std::int8_t *query,
                        const std::int32_t *rows, std::size_t count, std::int32_t *out) {
    std::int32_t total = 0;
    for (std::size_t j = 0; j < stride; ++j) total += query[j];
    const uint8x16_t flip = vdupq_n_u8(0x80);
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t *code = codes + row_at(rows, i) * stride;
        int32x4_t a = vdupq_n_s32(0), b = a;
        for (std::size_t j = 0; j < stride; j += 32) {
            // The instruction takes signed codes: 128 less, which the query's sum gives back.
            a = vdotq_s32(a, vreinterpretq_s8_u8(veorq_u8(vld1q_u8(code + j), flip)), vld1q_s8(query + j));
            b = vdotq_s32(b, vreinterpretq_s8_u8(veorq_u8(vld1q_u8(code + j + 16), flip)), vld1q_s8(query + j + 16));
        }
        out[i] = vaddvq_s32(vaddq_s32(a, b)) + 128 * total;
    }
}

void dot_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
             std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        float32x4_t a = vdupq_n_f32(0), b = a;
        std::size_t j = 0;
        for (; j + 8 <= dim; j += 8) {
            const float16x8_t eight = vreinterpretq_f16_u16(vld1q_u16(row + j));
            a = vfmaq_f32(a, vcvt_f32_f16(vget_low_f16(eight)), vld1q_f32(query + j));
            b = vfmaq_f32(b, vcvt_f32_f16(vget_high_f16(eight)), vld1q_f32(query + j + 4));
        }
        float sum = vaddvq_f32(vaddq_f32(a, b));
        for (; j < dim; ++j) sum += half_to_float(row[j]) * query[j];
        out[i] = sum;
    }
}

void square_f16(const std::uint16_t *vectors, std::size_t dim, const float *query, const std::int32_t *rows,
                std::size_t count, float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t *row = vectors + row_at(rows, i) * dim;
        float32x4_t a = vdupq_n_f32(0);
        std::size_t j = 0;
        for (; j + 4 <= dim; j += 4) {
            const float16x4_t four = vreinterpret_f16_u16(vld1_u16(row + j));
            const float32x4_t difference = vsubq_f32(vcvt_f32_f16(four), vld1q_f32(query + j));
            a = vfmaq_f32(a, difference, difference);
        }
        float sum = vaddvq_f32(a);
        for (; j < dim; ++j) {
            const float difference = half_to_float(row[j]) - query[j];
            sum += difference * difference;
        }
        out[i] = sum;
    }
}

void dot_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows, std::size_t count,
             float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        float32x4_t a = vdupq_n_f32(0);
        std::size_t j = 0;
        for (; j + 4 <= dim; j += 4) a = vfmaq_f32(a, vld1q_f32(row + j), vld1q_f32(query + j));
        float sum = vaddvq_f32(a);
        for (; j < dim; ++j) sum += row[j] * query[j];
        out[i] = sum;
    }
}

void square_f32(const float *vectors, std::size_t dim, const float *query, const std::int32_t *rows, std::size_t count,
                float *out) {
    for (std::size_t i = 0; i < count; ++i) {
        const float *row = vectors + row_at(rows, i) * dim;
        float32x4_t a = vdupq_n_f32(0);
        std::size_t j = 0;
        for (; j + 4 <= dim; j += 4) {
            const float32x4_t difference = vsubq_f32(vld1q_f32(row + j), vld1q_f32(query + j));
            a = vfmaq_f32(a, difference, difference);
        }
        float sum = vaddvq_f32(a);
        for (; j < dim; ++j) sum += (row[j] - query[j]) * (row[j] - query[j]);
        out[i] = sum;
    }
}

void looked_up(const std::uint8_t *blocks, std::size_t stride, std::size_t groups, const std::uint8_t *tables,
               std::size_t count, std::uint16_t *out) {
    const uint8x16_t nibble = vdupq_n_u8(15);
    for (std::size_t block = 0; block < count; ++block, blocks += stride, out += kBlock) {
        for (std::size_t half = 0; half < kBlock; half += 16) {
            uint16x8_t low = vdupq_n_u16(0), high = low;
            for (std::size_t group = 0; group < groups; ++group) {
                const uint8x16_t bytes = vld1q_u8(blocks + group * kBlock + half);
                const uint8x16_t first = vqtbl1q_u8(vld1q_u8(tables + 32 * group), vandq_u8(bytes, nibble));
                const uint8x16_t second = vqtbl1q_u8(vld1q_u8(tables + 32 * group + 16), vshrq_n_u8(bytes, 4));
                const uint8x16_t both = vaddq_u8(first, second);
                low = vaddw_u8(low, vget_low_u8(both));
                high = vaddw_u8(high, vget_high_u8(both));
            }
            vst1q_u16(out + half, low);
            vst1q_u16(out + half + 8, high);
        }
    }
}

constexpr Scores kTable{"neon",  dot_u8,     dot_f16,            square_f16, dot_f32,
                        square_f32, portable::sketched, looked_up, portable::estimated, portable::reaching};

bool runs() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

}  // namespace neon

#endif  // VSS_NEON

}  // namespace

const std::vector<const Scores *> &available_scores() {
    static const std::vector<const Scores *> found = [] {
        std::vector<const Scores *> tables;
#ifdef VSS_X86
        if (avx512::runs()) tables.push_back(&avx512::kTable);
        if (avx2::runs()) tables.push_back(&avx2::kTable);
#endif
#ifdef VSS_NEON
        if (neon::runs()) tables.push_back(&neon::kTable);
#endif
        tables.push_back(&portable::kTable);
        return tables;
    }();
    return found;
}

const Scores *scores_named(const char *name) {
    for (const Scores *table : available_scores()) {
        if (std::strcmp(table->name, name) == 0) return table;
    }
    return nullptr;
}

}  // namespace vss
