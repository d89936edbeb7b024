// The engine that one index is searched with: codes for the way, float vectors for the answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codes.hpp"
#include "graph.hpp"
#include "scores.hpp"

namespace vss {

enum class Measure { kDot, kEuclid };  // Cosine is kDot of unit vectors

// `count` x `dim` floats.
struct Vectors {
    const float *data = nullptr;
    std::size_t count = 0, dim = 0;
};

// Where the answers of one query go: k rows (-1: none) and scores (higher is better; -inf beside -1).
struct Answer {
    std::int64_t *rows;
    float *scores;
    std::size_t k;
};

class Engine {
  public:
    Engine(const Scores &scores, Measure measure, Codes codes, Graph graph, Vectors vectors)
        : scores_(scores), measure_(measure), codes_(codes), graph_(graph), vectors_(vectors) {}

    // The best that a walk of this width finds.
    void search(const float *query, std::size_t width, Answer answer) const;
    // The same among the `allowed` rows that `allow` (a byte a row) lets through: an ordinary walk, so wide that about
    // `width` of what it meets is allowed, and wider again where less is. False, and no answer, once a scan of the
    // allowed rows is the faster way.
    bool search_allowed(const float *query, const std::uint8_t *allow, std::size_t allowed, std::size_t width,
                        Answer answer) const;
    // The best of listed rows (null: `count` rows from `first` on), by codes, then the `rescore` best of them exactly,
    // and all that the codes cannot tell from the last one of these.
    void scan(const float *query, const std::int32_t *rows, std::size_t first, std::size_t count, std::size_t rescore,
              Answer answer) const;

  private:
    // Calls `offer` with the score by codes of each listed row (null: of `count` from `first` on), and the row.
    template <typename Offer>
    void each(const std::int32_t *rows, std::size_t first, std::size_t count, Scratch &scratch, Offer offer) const;
    // The best by exact scores of what the beam holds; the score of the last one, -inf where there are fewer than k.
    double rescore(const float *query, Scratch &scratch, Answer answer) const;
    // What a row's exact score (as `measure_exactly` gives it) is hardly ever above its score by codes.
    double most_off(const float *query, const std::int32_t *rows, std::size_t first, std::size_t count,
                    Scratch &scratch) const;
    // Into `scratch.scores` the products of the first `scratch.rows`, or minus half the squares of their distances.
    void measure_exactly(const float *query, std::size_t count, Scratch &scratch) const;
    // The best of those; the score of the last one, -inf where there are fewer than k.
    double give_best(std::size_t count, const Scratch &scratch, Answer answer) const;

    const Scores &scores_;
    Measure measure_;
    Codes codes_;
    Graph graph_;
    Vectors vectors_;
};

}  // namespace vss
