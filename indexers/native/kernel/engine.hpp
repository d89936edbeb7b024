// The engine that one index is searched with: codes for the way, float vectors for the answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cells.hpp"
#include "codes.hpp"
#include "graph.hpp"
#include "scores.hpp"
#include "sketches.hpp"

namespace vss {

enum class Measure { kDot, kEuclid };  // Cosine is kDot of unit vectors

// Rows of `dim` floats, or of IEEE half floats: one of the two is null.
struct Vectors {
    const float *floats = nullptr;
    const std::uint16_t *halves = nullptr;
    std::size_t dim = 0;

    const char *row(std::size_t at) const {
        return halves != nullptr ? reinterpret_cast<const char *>(halves + at * dim)
                                 : reinterpret_cast<const char *>(floats + at * dim);
    }
    std::size_t bytes() const { return dim * (halves != nullptr ? sizeof *halves : sizeof *floats); }
};

// Where the answers of one query go: k rows (-1: none) and scores (higher is better; -inf beside -1). k is at least 1.
struct Answer {
    std::int64_t *rows;
    float *scores;
    std::size_t k;
};

// What a scan looks at: `count` listed rows (null: from `first` on) that `allow` (a byte for each row of the index; null:
// all) lets through; and sketches of them in this order, in these blocks (null: from that of `first` on), and what
// `Codes::extra` is to them, where there are any.
struct Looked {
    const std::int32_t *rows = nullptr;
    std::size_t first = 0, count = 0;
    const std::uint8_t *allow = nullptr;
    Sketches sketches;
    const float *extras = nullptr;
    const std::uint32_t *blocks = nullptr;

    std::int32_t row(std::size_t place) const {
        return rows == nullptr ? static_cast<std::int32_t>(first + place) : rows[place];
    }
};

// Listed rows that have sketches of their own, in this order, and what `Codes::extra` is to them (null: nothing). Where
// they stand cell by cell, those of cell i do from `starts[i]` to `starts[i + 1]`.
struct Together {
    const std::int32_t *rows;
    std::size_t count;
    Sketches sketches;
    const float *extras;
    const std::int32_t *starts;
};

// Fewer rows are scored by their codes before sketches would have said which.
constexpr std::size_t kSketched = 512;

// The width of a walk that meets about as many allowed rows, which are this share of all, as one of `width` meets rows.
double widened(std::size_t width, std::size_t k, double share);

// One for each thread, kept: its memory is a byte for each row of the largest index that the thread has searched.
Scratch &scratch_of_this_thread();

class Engine {
  public:
    Engine(const Scores &scores, Measure measure, Codes codes, Graph graph, Vectors vectors)
        : scores_(scores), measure_(measure), codes_(codes), sketches_(), graph_(graph), vectors_(vectors) {}

    const Scores &scores() const { return scores_; }

    // Lets scans of rows that stand together look at these first. Once, before any search.
    void sketch(Sketches sketches) { sketches_ = sketches; }

    // The best that a walk of this width finds.
    void search(const float *query, std::size_t width, Answer answer) const;
    // The same among the `allowed` rows that `allow` (a byte a row) lets through: an ordinary walk, so wide that about
    // `width` of what it meets is allowed, and `again` wider where less is. False, and no answer, once a scan of the
    // allowed rows is the faster way, or another walk would be needed that was not asked for.
    bool search_allowed(const float *query, const std::uint8_t *allow, std::size_t allowed, std::size_t width,
                        bool again, Answer answer) const;
    // The best of listed rows (null: `count` rows from `first` on) that `allow` (a byte for each row of the index; null:
    // all) lets through, by codes, then the `rescore` best of them exactly, and all that the codes cannot tell from the
    // last one of these.
    void scan(const float *query, const std::int32_t *rows, std::size_t first, std::size_t count,
              const std::uint8_t *allow, std::size_t rescore, Answer answer) const;

    // The same of listed rows that have sketches of their own.
    void scan_gathered(const float *query, const Together &together, std::size_t rescore, Answer answer) const;

    // The best of allowed rows (see `search_allowed`) in the cells nearest to the query: as near as `budget` of them are
    // where they are spread evenly; further where they are not. As `scan` gives the best of those.
    void probe(const Cells &cells, const float *query, const std::uint8_t *allow, std::size_t allowed,
               std::size_t budget, std::size_t rescore, Answer answer) const;
    // The same of listed rows, each of which stands once.
    void probe_listed(const Cells &cells, const float *query, const std::int32_t *rows, std::size_t count,
                      std::size_t budget, std::size_t rescore, Answer answer) const;
    // The same of listed rows that have sketches of their own and stand cell by cell.
    void probe_gathered(const Cells &cells, const float *query, const Together &together, std::size_t budget,
                        std::size_t rescore, Answer answer) const;

  private:
    // Calls `visit` with one cell after the other, the nearest to `scratch.query` first, until they hold enough of so
    // many allowed rows for a budget (see `probe`), and k of them: `visit` says how many the cell holds.
    template <typename Visit>
    void each_near(const Cells &cells, Nearest &nearest, std::size_t allowed, std::size_t budget, std::size_t k,
                   Visit visit) const;
    void scan(const float *query, const Looked &looked, bool sketched, std::size_t rescore, Answer answer) const;
    // Calls `offer` with the score by codes of each row that is looked at, and the row. Rows that score less than `bar`
    // says before them may be passed over.
    template <typename Bar, typename Offer>
    void each(const Looked &looked, const Scratch &scratch, Bar bar, Offer offer) const;
    // The same of those of which `scratch.estimates` tells, from which codes are hardly ever further than `apart`; `offer`
    // gets the estimate too.
    template <typename Bar, typename Offer>
    void each_likely(const Looked &looked, float apart, const Scratch &scratch, Bar bar, Offer offer) const;
    // Into `scratch.estimates` what sketches say of all; what a row's score by codes is hardly ever above that.
    float estimate(const Looked &looked, Scratch &scratch) const;
    // The worst score by codes of the `wide` rows with about the best estimates; -inf where there are fewer. `apart`
    // becomes what codes are hardly further from the estimates of these either: their errors grow with the rows' lengths,
    // and the best may be the longest.
    float likely_bar(const Looked &looked, std::size_t wide, float &apart, Scratch &scratch) const;
    // Answers with the best by exact scores of what the beam holds.
    void rescore(const float *query, Scratch &scratch, Answer answer) const;
    // Calls `add` with a function that takes a row, scores it exactly and keeps the best in `scratch.exact`: `most`,
    // at least 1.
    template <typename Add>
    void keep_best(const float *query, std::size_t most, Scratch &scratch, Add add) const;
    // What a row's exact score (as `measure_exactly` gives it) is hardly ever above its score by codes; what is not
    // finite where that cannot be said.
    double most_off(const float *query, const Looked &looked, Scratch &scratch) const;
    // Into `scratch.scores` the products of the first `scratch.rows`, or minus half the squares of their distances.
    void measure_exactly(const float *query, std::size_t count, Scratch &scratch) const;
    // Answers with `scratch.exact`.
    void give(Scratch &scratch, Answer answer) const;

    const Scores &scores_;
    Measure measure_;
    Codes codes_;
    Sketches sketches_;
    Graph graph_;
    Vectors vectors_;
};

}  // namespace vss
