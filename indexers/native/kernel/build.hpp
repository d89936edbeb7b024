// Making a graph: rows are inserted in batches, each batch against the graph before it, so that the result does not
// depend on threads (ParlayANN: Manohar et al. 2024, arXiv:2305.04359; edges are pruned as DiskANN does: Subramanya et
// al., NeurIPS 2019).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "codes.hpp"
#include "graph.hpp"
#include "scores.hpp"

namespace vss {

struct BuildSettings {
    std::size_t degree = 32;  // most edges of a row
    std::size_t width = 128;  // of the walk that finds a row's candidates
    float alpha = 1.2F;       // an edge is left out where another leads that many times nearer
};

class GraphBuilder {
  public:
    // `base[p]` - 2 x (the score of x for p) is how far x lies from p: with minus half the squared lengths as
    // `codes.extra` and the squared lengths as `base` the squared distance.
    GraphBuilder(const Scores &scores, const Codes &codes, const float *base, std::int32_t entry,
                 BuildSettings settings);

    GraphBuilder(const GraphBuilder &) = delete;
    GraphBuilder &operator=(const GraphBuilder &) = delete;

    // Starts from the graph of other rows, `count` x `settings.degree`, before anything is inserted: `rows[i]` is its
    // row i here, or -1 where that is gone. In place of a link to a row that is gone come that row's own (FreshDiskANN:
    // Singh et al. 2021, arXiv:2105.09613). std::invalid_argument, and nothing is adopted, where a row stands there
    // twice.
    void adopt(const std::int32_t *graph, std::size_t count, const std::int32_t *rows, std::size_t threads);
    // Inserts rows that are not in the graph yet. std::invalid_argument, and nothing is inserted, where one is.
    void insert(const std::int32_t *rows, std::size_t count, std::size_t threads);
    // Cuts every row to `degree` edges and writes them to `out`, count x degree, -1 behind the last one of a row.
    void finish(std::int32_t *out, std::size_t threads);

  private:
    struct Candidate {
        float distance;
        std::int32_t row;
    };
    static bool nearer(const Candidate &a, const Candidate &b) {
        return a.distance != b.distance ? a.distance < b.distance : a.row < b.row;
    }
    struct Worker {
        Scratch scratch;
        Query query;
        std::vector<Candidate> candidates, refused;
        std::vector<std::int32_t> rows, sums, kept;
        std::vector<float> scores;
    };

    // What is no number counts as infinitely far: sorting needs an order.
    float distance(std::int32_t row, float score) const {
        const float found = base_[row] - 2 * score;
        return found == found ? found : std::numeric_limits<float>::infinity();
    }
    // Marks rows as inserted; std::invalid_argument, and none is, where one is already. -1 is no row.
    void mark(const std::int32_t *rows, std::size_t count);
    void adopt_row(const Graph &old, const std::int32_t *rows, std::int32_t from, Worker &worker);
    void place(std::int32_t row, Worker &worker);
    // Gives what these rows link to a link back.
    void link_all_back(const std::int32_t *rows, std::size_t count, std::size_t threads);
    void link_back(std::int32_t row, const std::int32_t *others, std::size_t count, Worker &worker);
    // Gives each row that no path leads to an edge from the nearest row that one does lead to, in place of an edge to a
    // row that has others (after NSG: Fu et al. 2017, arXiv:1707.00143). Whether there was no such row.
    bool connect(std::int32_t *out);
    void prune(std::int32_t row, Worker &worker);
    // Lets the candidates be `worker.rows`, with how far each lies from the row.
    void gather(std::int32_t row, Worker &worker);
    std::int32_t *of(std::int32_t row) { return neighbours_.data() + static_cast<std::size_t>(row) * room_; }

    const Scores &scores_;
    Codes codes_;
    RowQueries queries_;
    const float *base_;
    std::size_t room_;  // edges that a row may have until the end
    std::vector<std::int32_t> neighbours_;
    std::vector<bool> inserted_;
    std::int32_t entry_;
    BuildSettings settings_;
    Graph graph_;
    std::vector<Worker> workers_;
};

}  // namespace vss
