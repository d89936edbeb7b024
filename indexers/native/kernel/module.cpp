// The kernel as Python sees it: numpy arrays in, numpy arrays out, everything checked here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "build.hpp"
#include "engine.hpp"

namespace py = pybind11;

namespace vss {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// Sums of products of codes fit 32 bits: 255 x 128 x 65,536 < 2^31.
constexpr std::size_t kMostComponents = 65536;
// Its square and what it is divided by must stay floats.
constexpr float kLeastScale = 1e-18F, kMostScale = 1e18F;
// Cells of one answer, queries x k: 1.5 GiB.
constexpr std::size_t kMostAnswers = std::size_t{1} << 27;
constexpr std::size_t kMostDegree = 1024;
// Components of codes up to which a call keeps the interpreter lock: about a tenth of a millisecond.
constexpr std::size_t kShort = std::size_t{1} << 21;
// Part of all rows from which on those that a mask lets through are not listed: all are scored, in the order of memory.
constexpr double kListedShare = 0.4;
constexpr std::size_t kMostCells = 65535;

void require(bool holds, const std::string &message) {
    if (!holds) throw std::invalid_argument(message);
}

const Scores &scores_or_best(const std::string &name) {
    if (name.empty()) return *available_scores().front();
    const Scores *found = scores_named(name.c_str());
    require(found != nullptr, "this processor cannot run the kernel " + name);
    return *found;
}

void require_aligned(const py::array &array, const char *what) {
    const bool aligned = (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    require(aligned, std::string(what) + ": not aligned in memory");
}

// An array as it is given, never a converted copy, which nobody would hold.
const float *floats(const py::object &given, std::size_t count, const char *what) {
    if (given.is_none()) return nullptr;
    require(py::isinstance<Array<float>>(given), std::string(what) + ": wanted float32 in C order");
    const auto array = py::reinterpret_borrow<Array<float>>(given);
    const bool fits = array.ndim() == 1 && static_cast<std::size_t>(array.shape(0)) == count;
    require(fits, std::string(what) + ": wrong length");
    require_aligned(array, what);
    require(std::all_of(array.data(), array.data() + count, [](float value) { return std::isfinite(value); }),
            std::string(what) + ": holds what is not finite");
    return array.data();
}

std::size_t stride_of(const py::array &codes) { return static_cast<std::size_t>(codes.shape(1)); }

std::size_t rows_of(const py::array &codes) {
    require(codes.ndim() == 2, "codes: wanted two dimensions");
    return static_cast<std::size_t>(codes.shape(0));
}

Codes codes_of(const py::array &data, std::size_t dim, float scale, const py::object &centre, const py::object &extra) {
    require(data.ndim() == 2 && (data.flags() & py::array::c_style) != 0, "codes: wanted two dimensions in C order");
    require_aligned(data, "codes");
    Codes codes;
    const bool bytes = py::isinstance<py::array_t<std::uint8_t>>(data);
    require(bytes || data.dtype().equal(py::dtype("float16")), "codes: wanted uint8 or float16");
    codes.form = bytes ? Form::kU8 : Form::kF16;
    codes.data = data.data();
    codes.count = static_cast<std::size_t>(data.shape(0));
    codes.stride = static_cast<std::size_t>(data.shape(1));
    codes.dim = dim;
    require(dim > 0, "codes: wanted at least one component");
    require(codes.stride >= dim && codes.stride % kPad == 0, "codes: rows are not padded as they should be");
    require(codes.stride <= kMostComponents, "codes: too many components");
    require(codes.count <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()), "codes: too many rows");
    require(scale >= kLeastScale && scale <= kMostScale, "scale: wanted a number from 1e-18 to 1e18");
    codes.scale = scale;
    codes.centre = floats(centre, dim, "centre");
    codes.extra = floats(extra, codes.count, "extra");
    return codes;
}

void check_ids(const std::int32_t *ids, std::size_t count, std::int32_t least, std::size_t rows, const char *what) {
    std::int32_t low = least, high = -1;
    for (std::size_t i = 0; i < count; ++i) {
        low = std::min(low, ids[i]);
        high = std::max(high, ids[i]);
    }
    const bool inside = low >= least && high < static_cast<std::int64_t>(rows);
    require(inside, std::string(what) + ": a row number is out of range");
}

// How many rows a mask (a byte a row) lets through.
std::size_t allowed_of(const std::uint8_t *mask, std::size_t count) {
    constexpr std::size_t kLanes = 64, kRounds = 255;  // a byte counts as far as 255
    std::size_t allowed = 0, at = 0;
    while (at + kLanes <= count) {
        std::uint8_t lanes[kLanes] = {};
        for (std::size_t round = 0; round < kRounds && at + kLanes <= count; ++round, at += kLanes) {
            for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<std::uint8_t>(lanes[i] + (mask[at + i] != 0));
        }
        for (const std::uint8_t lane : lanes) allowed += lane;
    }
    for (; at < count; ++at) allowed += mask[at] != 0;
    return allowed;
}

// The vectors for the exact scores. py::type_error, as for arguments whose type pybind11 checks.
Vectors vectors_of(const py::array &given) {
    const bool halves = given.dtype().equal(py::dtype("float16"));
    if (!(halves || py::isinstance<py::array_t<float>>(given)) || (given.flags() & py::array::c_style) == 0) {
        throw py::type_error("vectors: wanted float32 or float16 in C order");
    }
    require(given.ndim() == 2, "vectors: wanted two dimensions");
    require_aligned(given, "vectors");
    Vectors vectors;
    vectors.dim = static_cast<std::size_t>(given.shape(1));
    if (halves) {
        vectors.halves = static_cast<const std::uint16_t *>(given.data());
    } else {
        vectors.floats = static_cast<const float *>(given.data());
    }
    return vectors;
}

// The rows that a mask lets through. A mask that changes meanwhile gives others, never more than were counted.
std::vector<std::int32_t> listed(const std::uint8_t *mask, std::size_t count) {
    constexpr std::size_t kBytes = sizeof(std::uint64_t);
    constexpr std::uint64_t kLow = 0x7f7f7f7f7f7f7f7f;
    const std::size_t most = allowed_of(mask, count), whole = count / kBytes * kBytes;
    std::vector<std::int32_t> rows(most + kBytes);  // what was not counted goes to the places more
    std::int32_t *out = rows.data();
    std::size_t found = 0;
    for (std::size_t first = 0; first < whole; first += kBytes) {
        std::uint64_t word;
        std::memcpy(&word, mask + first, kBytes);
        if (word == 0) continue;
        // The top bit of each byte that is not zero; the first byte is the lowest (processors are little-endian).
        for (std::uint64_t left = (((word & kLow) + kLow) | word) & ~kLow; left != 0; left &= left - 1) {
            out[found++] = static_cast<std::int32_t>(first) + __builtin_ctzll(left) / 8;
        }
        found = std::min(found, most);
    }
    for (std::size_t row = whole; row < count && found < most; ++row) {
        out[found] = static_cast<std::int32_t>(row);
        found += static_cast<std::size_t>(mask[row] != 0);
    }
    rows.resize(found);
    return rows;
}

// Room for the sketches of so many rows of so many components, and the components' means and spreads.
Sketches sketches_of(const Array<std::uint8_t> &blocks, const Array<float> &moments, std::size_t dim,
                     std::size_t count) {
    Sketches sketches;
    sketches.dim = dim;
    require(blocks.ndim() == 2 && static_cast<std::size_t>(blocks.shape(1)) == sketches.bytes(), "blocks: wrong shape");
    require(static_cast<std::size_t>(blocks.shape(0)) * kBlock >= count, "blocks: fewer than the rows need");
    require(moments.ndim() == 2 && moments.shape(0) == 2 && static_cast<std::size_t>(moments.shape(1)) == dim,
            "moments: wrong shape");
    require_aligned(moments, "moments");
    const bool finite = std::all_of(moments.data(), moments.data() + 2 * dim, [](float one) { return std::isfinite(one); });
    require(finite, "moments: hold what is not finite");
    sketches.blocks = blocks.data();
    sketches.means = moments.data();
    sketches.spreads = moments.data() + dim;
    return sketches;
}

void write_sketches(const py::array &codes, std::size_t first, std::size_t count, const Array<float> &moments,
                    Array<std::uint8_t> blocks, const std::string &kernel) {
    require(py::isinstance<py::array_t<std::uint8_t>>(codes), "codes: wanted uint8");
    require(moments.ndim() == 2, "moments: wrong shape");
    const Codes coded = codes_of(codes, static_cast<std::size_t>(moments.shape(1)), 1, py::none(), py::none());
    require(first <= coded.count && count <= coded.count - first, "rows: wanted rows of the codes");
    const Sketches sketches = sketches_of(blocks, moments, coded.dim, first + count);
    const Scores &scores = scores_or_best(kernel);
    std::uint8_t *out = blocks.mutable_data();
    const py::gil_scoped_release others_may_run;
    sketch(scores, coded, sketches.means, sketches.spreads, first, count, out);
}

// Rows of one searcher with sketches of their own, side by side; everything is its own copy.
struct Gathered {
    std::size_t of;  // the number of the searcher
    std::vector<std::int32_t> rows, starts;  // starts: of the cells' rows; empty where there are none
    std::vector<std::uint8_t> blocks;
    std::vector<float> moments, extras;

    std::size_t bytes() const {
        const std::size_t numbers = (rows.size() + starts.size()) * sizeof rows[0];
        return numbers + blocks.size() + (moments.size() + extras.size()) * sizeof(float);
    }
    Together together(std::size_t dim) const {
        const Sketches sketches{blocks.data(), moments.data(), moments.data() + dim, dim};
        return {rows.data(), rows.size(), sketches, extras.empty() ? nullptr : extras.data(),
                starts.empty() ? nullptr : starts.data()};
    }
};

// Rows cell by cell, those of one in the order in which they come; where the cells begin, and all end.
std::vector<std::int32_t> put_in_cells(const Cells &cells, std::vector<std::int32_t> &rows) {
    std::vector<std::int32_t> starts(cells.count() + 1, 0), put(rows.size());
    for (const std::int32_t row : rows) ++starts[cells.of[row] + std::size_t{1}];
    for (std::size_t cell = 0; cell < cells.count(); ++cell) starts[cell + 1] += starts[cell];
    std::vector<std::int32_t> next(starts.begin(), starts.end() - 1);
    for (const std::int32_t row : rows) put[static_cast<std::size_t>(next[cells.of[row]]++)] = row;
    rows = std::move(put);
    return starts;
}

// Keeps the arrays alive that the engine points into.
class Searcher {
  public:
    Searcher(const std::string &measure, py::array codes, float scale, py::object centre, py::object extra,
             Array<std::int32_t> graph, Array<std::int32_t> entries, py::array vectors, const std::string &kernel)
        : held_(py::make_tuple(codes, centre, extra, graph, entries, vectors)),
          count_(rows_of(codes)),
          dim_(vectors.ndim() == 2 ? static_cast<std::size_t>(vectors.shape(1)) : 0),
          degree_(graph.ndim() == 2 ? static_cast<std::size_t>(graph.shape(1)) : 0),
          scale_(scale),
          number_(++searchers),
          engine_(make(measure, codes, scale, centre, extra, graph, entries, vectors, kernel)) {}

    py::tuple search(const Array<float> &queries, std::size_t k, std::size_t width) const {
        return answers(queries, k, width * degree_,
                       [&](const float *query, Answer answer) { engine_.search(query, width, answer); });
    }

    void divide(py::array centres, py::object extra, const Array<std::uint16_t> &of) {
        const py::object centre = held_[1];
        const Codes coded = codes_of(centres, dim_, scale_, centre, extra);
        const Form form = py::isinstance<py::array_t<std::uint8_t>>(held_[0]) ? Form::kU8 : Form::kF16;
        require(coded.form == form, "centres: not in the form of the codes");
        require(coded.stride == stride_of(py::reinterpret_borrow<py::array>(held_[0])), "centres: another stride than the codes");
        require((coded.extra != nullptr) == !held_[2].is_none(), "centres: extra where the codes have none, or none");
        require(coded.count > 0 && coded.count <= kMostCells, "centres: wanted 1 to 65,535");
        require(of.ndim() == 1 && static_cast<std::size_t>(of.shape(0)) == count_, "of: wrong length");
        require_aligned(of, "of");
        const std::uint16_t *data = of.data();
        for (std::size_t row = 0; row < count_; ++row) require(data[row] < coded.count, "of: a cell that there is not");
        std::vector<std::int32_t> members(count_);
        std::iota(members.begin(), members.end(), 0);
        Cells cells{coded, data, nullptr, nullptr};
        std::vector<std::int32_t> starts = put_in_cells(cells, members);
        held_cells_ = py::make_tuple(centres, extra, of);
        starts_ = std::move(starts);
        members_ = std::move(members);
        cells.members = members_.data();
        cells.starts = starts_.data();
        cells_ = cells;
    }

    void sketch(const Array<std::uint8_t> &blocks, const Array<float> &moments) {
        const py::array codes = py::reinterpret_borrow<py::array>(held_[0]);
        require(py::isinstance<py::array_t<std::uint8_t>>(codes), "sketches: the codes are not bytes");
        const Sketches sketches = sketches_of(blocks, moments, dim_, count_);
        held_sketches_ = py::make_tuple(blocks, moments);
        engine_.sketch(sketches);
    }

    Gathered gather(const Array<std::int32_t> &rows, const Array<float> &moments) const {
        const py::array codes = py::reinterpret_borrow<py::array>(held_[0]);
        require(py::isinstance<py::array_t<std::uint8_t>>(codes), "sketches: the codes are not bytes");
        require(moments.ndim() == 2 && moments.shape(0) == 2 && static_cast<std::size_t>(moments.shape(1)) == dim_,
                "moments: wrong shape");
        const auto [data, size] = listed_rows(rows);
        const Codes coded = codes_of(codes, dim_, scale_, py::none(), held_[2]);
        Gathered made{number_, {data, data + size}, {}, {}, {moments.data(), moments.data() + 2 * dim_}, {}};
        const bool finite = std::all_of(made.moments.begin(), made.moments.end(), [](float one) { return std::isfinite(one); });
        require(finite, "moments: hold what is not finite");
        const py::gil_scoped_release others_may_run;
        if (cells_.count() > 0) made.starts = put_in_cells(cells_, made.rows);
        if (coded.extra != nullptr) {
            made.extras.reserve(size);
            for (const std::int32_t row : made.rows) made.extras.push_back(coded.extra[row]);
        }
        made.blocks.resize((size + kBlock - 1) / kBlock * made.together(dim_).sketches.bytes());
        const float *means = made.moments.data();
        sketch_listed(engine_.scores(), coded, means, means + dim_, made.rows.data(), size, made.blocks.data());
        return made;
    }

    py::tuple scan_gathered(const Array<float> &queries, std::size_t k, std::size_t rescore,
                            const Gathered &gathered) const {
        const Together together = gathered_here(gathered);
        return answers(queries, k, together.count, [&](const float *query, Answer answer) {
            engine_.scan_gathered(query, together, rescore, answer);
        });
    }

    py::tuple probe_gathered(const Array<float> &queries, std::size_t k, std::size_t budget, std::size_t rescore,
                             const Gathered &gathered) const {
        const Together together = gathered_here(gathered);
        const bool divided = cells_.count() > 0 && gathered.starts.size() == cells_.count() + 1;
        require(divided, "the rows were not divided into cells when they were gathered");
        return answers(queries, k, together.count, [&](const float *query, Answer answer) {
            engine_.probe_gathered(cells_, query, together, budget, rescore, answer);
        });
    }

    py::tuple probe(const Array<float> &queries, std::size_t k, std::size_t budget, std::size_t rescore,
                    const Array<bool> &allow) const {
        require(cells_.count() > 0, "the rows were not divided into cells");
        const std::uint8_t *mask = mask_of(allow);
        const std::size_t allowed = allowed_of(mask, count_);
        return answers(queries, k, count_, [&](const float *query, Answer answer) {
            engine_.probe(cells_, query, mask, allowed, budget, rescore, answer);
        });
    }

    py::tuple probe_listed(const Array<float> &queries, std::size_t k, std::size_t budget, std::size_t rescore,
                           const Array<std::int32_t> &rows) const {
        require(cells_.count() > 0, "the rows were not divided into cells");
        const auto [data, size] = listed_rows(rows);
        return answers(queries, k, size, [&, data = data, size = size](const float *query, Answer answer) {
            engine_.probe_listed(cells_, query, data, size, budget, rescore, answer);
        });
    }

    py::tuple search_allowed(const Array<float> &queries, std::size_t k, std::size_t width, std::size_t rescore,
                             const Array<bool> &allow, std::size_t budget, std::optional<std::size_t> counted) const {
        require(budget == 0 || cells_.count() > 0, "the rows were not divided into cells");
        require(counted.value_or(0) <= count_, "counted: more rows than there are");
        const std::uint8_t *mask = mask_of(allow);
        std::optional<std::vector<std::int32_t>> rows;
        const std::size_t allowed = counted ? *counted : allowed_of(mask, count_);
        const std::size_t walked = width * degree_ * (count_ / std::max<std::size_t>(1, allowed) + 1);
        return answers(queries, k, walked, [&](const float *query, Answer answer) {
            if (allowed > 0 && engine_.search_allowed(query, mask, allowed, width, budget == 0, answer)) return;
            if (budget > 0) {
                engine_.probe(cells_, query, mask, allowed, budget, rescore, answer);
                return;
            }
            if (!rows) rows = listed(mask, count_);
            engine_.scan(query, rows->data(), 0, rows->size(), nullptr, rescore, answer);
        });
    }

    py::tuple scan(const Array<float> &queries, std::size_t k, std::size_t rescore,
                   const Array<std::int32_t> &rows) const {
        const auto [data, size] = listed_rows(rows);
        return answers(queries, k, size, [&, data = data, size = size](const float *query, Answer answer) {
            engine_.scan(query, data, 0, size, nullptr, rescore, answer);
        });
    }

    py::tuple scan_allowed(const Array<float> &queries, std::size_t k, std::size_t rescore,
                           const Array<bool> &allow) const {
        const std::uint8_t *mask = mask_of(allow);
        if (static_cast<double>(allowed_of(mask, count_)) >= kListedShare * static_cast<double>(count_)) {
            return answers(queries, k, count_, [&](const float *query, Answer answer) {
                engine_.scan(query, nullptr, 0, count_, mask, rescore, answer);
            });
        }
        const std::vector<std::int32_t> rows = listed(mask, count_);
        return answers(queries, k, rows.size(), [&](const float *query, Answer answer) {
            engine_.scan(query, rows.data(), 0, rows.size(), nullptr, rescore, answer);
        });
    }

    py::tuple scan_range(const Array<float> &queries, std::size_t k, std::size_t rescore, std::size_t first,
                         std::size_t count) const {
        require(first <= count_ && count <= count_ - first, "range: wanted rows of the index");
        return answers(queries, k, count, [&](const float *query, Answer answer) {
            engine_.scan(query, nullptr, first, count, nullptr, rescore, answer);
        });
    }

  private:
    static Engine make(const std::string &measure, const py::array &codes, float scale, const py::object &centre,
                       const py::object &extra, const Array<std::int32_t> &graph, const Array<std::int32_t> &entries,
                       const py::array &given_vectors, const std::string &kernel) {
        require(measure == "dot" || measure == "euclid", "measure: wanted dot or euclid");
        const Vectors vectors = vectors_of(given_vectors);
        require_aligned(graph, "graph");
        require_aligned(entries, "entries");
        const Codes coded = codes_of(codes, vectors.dim, scale, centre, extra);
        require(static_cast<std::size_t>(given_vectors.shape(0)) == coded.count, "vectors: another number than codes");
        require(graph.ndim() == 2 && static_cast<std::size_t>(graph.shape(0)) == coded.count,
                "graph: another number of rows than codes");
        require(entries.ndim() == 1 && (entries.shape(0) > 0 || coded.count == 0), "entries: there are none");
        const auto degree = static_cast<std::size_t>(graph.shape(1));
        check_ids(graph.data(), coded.count * degree, -1, coded.count, "graph");
        check_ids(entries.data(), static_cast<std::size_t>(entries.shape(0)), 0, coded.count, "entries");
        const Graph links{graph.data(), coded.count, degree, entries.data(),
                          static_cast<std::size_t>(entries.shape(0))};
        return Engine(scores_or_best(kernel), measure == "dot" ? Measure::kDot : Measure::kEuclid, coded, links,
                      vectors);
    }

    Together gathered_here(const Gathered &gathered) const {
        require(gathered.of == number_, "gathered: rows of another searcher");
        return gathered.together(dim_);
    }

    // Rows of this index, and how many.
    std::pair<const std::int32_t *, std::size_t> listed_rows(const Array<std::int32_t> &rows) const {
        require(rows.ndim() == 1, "rows: wanted one dimension");
        require_aligned(rows, "rows");
        const auto size = static_cast<std::size_t>(rows.shape(0));
        check_ids(rows.data(), size, 0, count_, "rows");
        return {rows.data(), size};
    }

    // One byte a row; whatever is not zero lets its row through.
    const std::uint8_t *mask_of(const Array<bool> &allow) const {
        require(allow.ndim() == 1 && static_cast<std::size_t>(allow.shape(0)) == count_, "allow: wrong length");
        return reinterpret_cast<const std::uint8_t *>(allow.data());
    }

    void check_queries(const Array<float> &queries, std::size_t k) const {
        require(queries.ndim() == 2 && static_cast<std::size_t>(queries.shape(1)) == dim_, "queries: wrong shape");
        require_aligned(queries, "queries");
        const auto count = static_cast<std::size_t>(queries.shape(0));
        require(k <= kMostAnswers / std::max<std::size_t>(1, count), "k: more answers than can be held");
    }

    // looked: at about so many rows, for each query
    template <typename Ask>
    py::tuple answers(const Array<float> &queries, std::size_t k, std::size_t looked, Ask ask) const {
        check_queries(queries, k);
        const auto count = static_cast<std::size_t>(queries.shape(0));
        Array<std::int64_t> rows({count, k});
        Array<float> scores({count, k});
        const float *query = queries.data();
        std::int64_t *row = rows.mutable_data();
        float *score = scores.mutable_data();
        if (k > 0) {
            // Who lets go of the lock may wait for milliseconds until another thread gives it back.
            std::optional<py::gil_scoped_release> others_may_run;
            if (count * looked * dim_ >= kShort) others_may_run.emplace();
            for (std::size_t i = 0; i < count; ++i) ask(query + i * dim_, Answer{row + i * k, score + i * k, k});
        }
        return py::make_tuple(rows, scores);
    }

    py::tuple held_;  // the arrays that are pointed into
    std::size_t count_, dim_, degree_;
    float scale_;
    static inline std::atomic<std::size_t> searchers{0};
    std::size_t number_;
    Engine engine_;
    py::tuple held_cells_, held_sketches_;
    std::vector<std::int32_t> starts_, members_;
    Cells cells_;
};

class Builder {
  public:
    Builder(py::array codes, std::size_t dim, float scale, py::object extra, Array<float> base,
            std::int32_t entry, std::size_t degree, std::size_t width, float alpha, const std::string &kernel)
        : held_(py::make_tuple(codes, extra, base)),
          count_(rows_of(codes)),
          builder_(scores_or_best(kernel), codes_of(codes, dim, scale, py::none(), extra),
                   floats(base, count_, "base"), checked(entry, count_), checked(degree, width, alpha)),
          degree_(degree) {}

    void adopt(const Array<std::int32_t> &graph, const Array<std::int32_t> &rows, std::size_t threads) {
        require(graph.ndim() == 2 && static_cast<std::size_t>(graph.shape(1)) == degree_, "graph: another degree");
        require(rows.ndim() == 1 && rows.shape(0) == graph.shape(0), "rows: another number than the graph has");
        require_aligned(graph, "graph");
        require_aligned(rows, "rows");
        const auto size = static_cast<std::size_t>(rows.shape(0));
        check_ids(graph.data(), size * degree_, -1, size, "graph");
        check_ids(rows.data(), size, -1, count_, "rows");
        const std::int32_t *links = graph.data(), *data = rows.data();
        const py::gil_scoped_release others_may_run;
        const std::lock_guard<std::mutex> alone(changing_);
        builder_.adopt(links, size, data, threads);
    }

    void insert(const Array<std::int32_t> &rows, std::size_t threads) {
        require(rows.ndim() == 1, "rows: wanted one dimension");
        require_aligned(rows, "rows");
        const auto size = static_cast<std::size_t>(rows.shape(0));
        check_ids(rows.data(), size, 0, count_, "rows");
        const std::int32_t *data = rows.data();
        const py::gil_scoped_release others_may_run;
        const std::lock_guard<std::mutex> alone(changing_);
        builder_.insert(data, size, threads);
    }

    Array<std::int32_t> finish(std::size_t threads) {
        Array<std::int32_t> neighbours({count_, degree_});
        std::int32_t *data = neighbours.mutable_data();
        const py::gil_scoped_release others_may_run;
        const std::lock_guard<std::mutex> alone(changing_);
        builder_.finish(data, threads);
        return neighbours;
    }

  private:
    static std::int32_t checked(std::int32_t entry, std::size_t count) {
        require(entry >= 0 && static_cast<std::size_t>(entry) < count, "entry: out of range");
        return entry;
    }

    static BuildSettings checked(std::size_t degree, std::size_t width, float alpha) {
        require(degree >= 1 && degree <= kMostDegree, "degree: wanted 1 to 1024");
        require(width >= 1, "width: wanted at least 1");
        require(alpha > 0 && std::isfinite(alpha), "alpha: wanted a positive number");
        return {degree, width, alpha};
    }

    py::tuple held_;  // the arrays that are pointed into
    std::size_t count_;
    std::mutex changing_;
    GraphBuilder builder_;
    std::size_t degree_;
};

Array<std::int32_t> dots(const Array<std::uint8_t> &codes, const Array<std::int8_t> &query, const std::string &kernel) {
    require(codes.ndim() == 2 && query.ndim() == 1 && codes.shape(1) == query.shape(0), "codes, query: wrong shapes");
    require(codes.shape(1) % static_cast<py::ssize_t>(kPad) == 0, "codes: rows are not padded as they should be");
    require(static_cast<std::size_t>(codes.shape(1)) <= kMostComponents, "codes: too many components");
    const auto [low, high] = std::minmax_element(query.data(), query.data() + query.size());
    require(query.size() == 0 || (*low >= -64 && *high <= 64), "query: wanted components from -64 to 64");
    Array<std::int32_t> out(codes.shape(0));
    scores_or_best(kernel).dot_u8(codes.data(), static_cast<std::size_t>(codes.shape(1)), query.data(), nullptr,
                                  static_cast<std::size_t>(codes.shape(0)), out.mutable_data());
    return out;
}

}  // namespace
}  // namespace vss

PYBIND11_MODULE(_kernel, module) {
    module.doc() = "Graph search, scans and graph building over quantised vectors.";
    module.def("kernels", [] {
        std::vector<std::string> names;
        for (const vss::Scores *table : vss::available_scores()) names.emplace_back(table->name);
        return names;
    });
    module.def("dots", &vss::dots, py::arg("codes"), py::arg("query"), py::arg("kernel") = "");
    module.def(
        "listed",
        [](const vss::Array<bool> &allow) {
            vss::require(allow.ndim() == 1, "allow: wanted one dimension");
            const auto count = static_cast<std::size_t>(allow.shape(0));
            const auto *mask = reinterpret_cast<const std::uint8_t *>(allow.data());
            std::vector<std::int32_t> rows;
            {
                const py::gil_scoped_release others_may_run;
                rows = vss::listed(mask, count);
            }
            return vss::Array<std::int32_t>(static_cast<py::ssize_t>(rows.size()), rows.data());
        },
        py::arg("allow").noconvert());
    module.def("widened", &vss::widened, py::arg("width"), py::arg("k"), py::arg("share"));
    module.def("sketch", &vss::write_sketches, py::arg("codes"), py::arg("first"), py::arg("count"),
               py::arg("moments").noconvert(), py::arg("blocks").noconvert(), py::arg("kernel") = "");
    module.attr("PAD") = vss::kPad;
    module.attr("BLOCK") = vss::kBlock;
    py::class_<vss::Gathered>(module, "Gathered")
        .def("__len__", [](const vss::Gathered &gathered) { return gathered.rows.size(); })
        .def_property_readonly("nbytes", &vss::Gathered::bytes);
    py::class_<vss::Searcher>(module, "Searcher")
        .def(py::init<const std::string &, py::array, float, py::object, py::object, vss::Array<std::int32_t>,
                      vss::Array<std::int32_t>, py::array, const std::string &>(),
             py::arg("measure"), py::arg("codes"), py::arg("scale"), py::arg("centre").none(true),
             py::arg("extra").none(true), py::arg("graph").noconvert(), py::arg("entries").noconvert(),
             py::arg("vectors").noconvert(), py::arg("kernel") = "")
        .def("sketch", &vss::Searcher::sketch, py::arg("blocks").noconvert(), py::arg("moments").noconvert())
        .def("gather", &vss::Searcher::gather, py::arg("rows").noconvert(), py::arg("moments").noconvert())
        .def("scan_gathered", &vss::Searcher::scan_gathered, py::arg("queries").noconvert(), py::arg("k"),
             py::arg("rescore"), py::arg("gathered"))
        .def("probe_gathered", &vss::Searcher::probe_gathered, py::arg("queries").noconvert(), py::arg("k"),
             py::arg("budget"), py::arg("rescore"), py::arg("gathered"))
        .def("divide", &vss::Searcher::divide, py::arg("centres"), py::arg("extra").none(true),
             py::arg("of").noconvert())
        .def("probe", &vss::Searcher::probe, py::arg("queries").noconvert(), py::arg("k"), py::arg("budget"),
             py::arg("rescore"), py::arg("allow").noconvert())
        .def("probe_listed", &vss::Searcher::probe_listed, py::arg("queries").noconvert(), py::arg("k"),
             py::arg("budget"), py::arg("rescore"), py::arg("rows").noconvert())
        .def("search", &vss::Searcher::search, py::arg("queries").noconvert(), py::arg("k"), py::arg("width"))
        .def("search_allowed", &vss::Searcher::search_allowed, py::arg("queries").noconvert(), py::arg("k"),
             py::arg("width"), py::arg("rescore"), py::arg("allow").noconvert(), py::arg("budget") = 0,
             py::arg("counted") = py::none())
        .def("scan", &vss::Searcher::scan, py::arg("queries").noconvert(), py::arg("k"), py::arg("rescore"),
             py::arg("rows").noconvert())
        .def("scan_allowed", &vss::Searcher::scan_allowed, py::arg("queries").noconvert(), py::arg("k"),
             py::arg("rescore"), py::arg("allow").noconvert())
        .def("scan_range", &vss::Searcher::scan_range, py::arg("queries").noconvert(), py::arg("k"),
             py::arg("rescore"), py::arg("first"), py::arg("count"));
    py::class_<vss::Builder>(module, "Builder")
        .def(py::init<py::array, std::size_t, float, py::object, vss::Array<float>,
                      std::int32_t, std::size_t, std::size_t, float, const std::string &>(),
             py::arg("codes"), py::arg("dim"), py::arg("scale"), py::arg("extra").none(true),
             py::arg("base").noconvert(), py::arg("entry"),
             py::arg("degree"), py::arg("width"), py::arg("alpha"), py::arg("kernel") = "")
        .def("adopt", &vss::Builder::adopt, py::arg("graph").noconvert(), py::arg("rows").noconvert(),
             py::arg("threads"))
        .def("insert", &vss::Builder::insert, py::arg("rows").noconvert(), py::arg("threads"))
        .def("finish", &vss::Builder::finish, py::arg("threads"));
}
