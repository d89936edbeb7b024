#include "build.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

namespace vss {
namespace {

constexpr std::size_t kChunk = 64;  // rows that a thread takes at a time
constexpr std::size_t kMostThreads = 256;
constexpr int kConnectRounds = 4;

void in_parallel(std::size_t count, std::size_t threads, const std::function<void(std::size_t, std::size_t)> &work) {
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failing;
    const auto run = [&](std::size_t worker) {
        try {
            for (std::size_t start = next.fetch_add(kChunk); start < count; start = next.fetch_add(kChunk)) {
                for (std::size_t i = start; i < std::min(count, start + kChunk); ++i) work(worker, i);
            }
        } catch (...) {
            // It may not leave the thread: that would end the process.
            const std::lock_guard<std::mutex> alone(failing);
            failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    threads = std::min(threads, count / kChunk + 1);
    others.reserve(threads);
    try {
        for (std::size_t worker = 1; worker < threads; ++worker) others.emplace_back(run, worker);
    } catch (const std::exception &) {
        // The system gives no more threads, or no memory for one; those that there are do the work. Nothing may be
        // thrown past threads that run: that would end the process.
    }
    run(0);
    for (std::thread &other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace

GraphBuilder::GraphBuilder(const Scores &scores, const Codes &codes, const float *base, std::int32_t entry,
                           BuildSettings settings)
    : scores_(scores),
      codes_(codes),
      queries_(codes),
      base_(base),
      // Pruning a row at each new edge would be most of the work.
      room_(settings.degree + std::max<std::size_t>(1, settings.degree / 2)),
      neighbours_(codes.count * room_, -1),
      inserted_(codes.count, false),
      entry_(entry),
      settings_{settings.degree, std::clamp<std::size_t>(settings.width, 1, codes.count), settings.alpha},
      graph_{neighbours_.data(), codes.count, room_, &entry_, 1} {}

// Two threads would write the edges of a row that is there twice.
void GraphBuilder::mark(const std::int32_t *rows, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        if (rows[i] < 0) continue;
        if (inserted_[static_cast<std::size_t>(rows[i])]) {
            for (std::size_t j = 0; j < i; ++j) {
                if (rows[j] >= 0) inserted_[static_cast<std::size_t>(rows[j])] = false;
            }
            throw std::invalid_argument("rows: one is inserted already, or stands there twice");
        }
        inserted_[static_cast<std::size_t>(rows[i])] = true;
    }
}

void GraphBuilder::adopt(const std::int32_t *graph, std::size_t count, const std::int32_t *rows, std::size_t threads) {
    mark(rows, count);
    threads = std::clamp<std::size_t>(threads, 1, kMostThreads);
    if (workers_.size() < threads) workers_.resize(threads);
    const Graph old{graph, count, settings_.degree, nullptr, 0};
    in_parallel(count, threads, [&](std::size_t worker, std::size_t i) {
        if (rows[i] >= 0) adopt_row(old, rows, static_cast<std::int32_t>(i), workers_[worker]);
    });
    // Links that came from rows that are gone are missing too: without these a tenth gone cost .002 of recall@10 at
    // each width from 16 to 64 (15,000 x 384, five times in a row).
    std::vector<std::int32_t> repaired;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t *links = old.of(static_cast<std::int32_t>(i));
        const auto gone = [&](std::int32_t link) { return link >= 0 && rows[link] < 0; };
        if (rows[i] >= 0 && std::any_of(links, links + old.degree, gone)) repaired.push_back(rows[i]);
    }
    link_all_back(repaired.data(), repaired.size(), threads);
}

void GraphBuilder::adopt_row(const Graph &old, const std::int32_t *rows, std::int32_t from, Worker &worker) {
    const std::int32_t row = rows[from];
    Visited &seen = worker.scratch.visited;
    seen.start(codes_.count);
    seen.mark(row);
    worker.rows.clear();
    // Takes what stands in a row of the old graph and is not there yet, at most so many.
    const auto take = [&](std::int32_t of, std::size_t most) {
        const std::int32_t *links = old.of(of);
        for (std::size_t i = 0; i < old.degree && links[i] >= 0 && most > 0; ++i) {
            const std::int32_t other = rows[links[i]];
            if (other < 0 || seen.mark(other)) continue;
            worker.rows.push_back(other);
            --most;
        }
    };
    take(from, old.degree);
    const std::int32_t *links = old.of(from);
    for (std::size_t i = 0; i < old.degree && links[i] >= 0; ++i) {
        // Of the entry's links each is replaced by one near it: they must go on leading everywhere.
        if (rows[links[i]] < 0) take(links[i], row == entry_ ? 1 : old.degree);
    }
    if (worker.rows.size() <= settings_.degree) {
        std::fill(std::copy(worker.rows.begin(), worker.rows.end(), of(row)), of(row) + room_, -1);
        return;
    }
    gather(row, worker);
    // No more than a walk would have brought: pruning compares each with each.
    const std::size_t most = std::max(settings_.width, settings_.degree);
    if (worker.candidates.size() > most) {
        const auto end = worker.candidates.begin() + static_cast<std::ptrdiff_t>(most);
        std::nth_element(worker.candidates.begin(), end, worker.candidates.end(), nearer);
        worker.candidates.resize(most);
    }
    prune(row, worker);
}

void GraphBuilder::insert(const std::int32_t *rows, std::size_t count, std::size_t threads) {
    mark(rows, count);
    threads = std::clamp<std::size_t>(threads, 1, kMostThreads);
    if (workers_.size() < threads) workers_.resize(threads);
    in_parallel(count, threads, [&](std::size_t worker, std::size_t i) { place(rows[i], workers_[worker]); });
    link_all_back(rows, count, threads);
}

void GraphBuilder::link_all_back(const std::int32_t *rows, std::size_t count, std::size_t threads) {
    std::vector<std::pair<std::int32_t, std::int32_t>> back;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t *own = of(rows[i]);
        for (std::size_t j = 0; j < room_ && own[j] >= 0; ++j) back.emplace_back(own[j], rows[i]);
    }
    std::sort(back.begin(), back.end());
    std::vector<std::size_t> starts;
    std::vector<std::int32_t> sources(back.size());
    for (std::size_t i = 0; i < back.size(); ++i) {
        if (i == 0 || back[i].first != back[i - 1].first) starts.push_back(i);
        sources[i] = back[i].second;
    }
    in_parallel(starts.size(), threads, [&](std::size_t worker, std::size_t i) {
        const std::size_t end = i + 1 < starts.size() ? starts[i + 1] : back.size();
        link_back(back[starts[i]].first, sources.data() + starts[i], end - starts[i], workers_[worker]);
    });
}

void GraphBuilder::place(std::int32_t row, Worker &worker) {
    if (row == entry_) return;
    queries_.ask(row, worker.scratch.query);
    walk(scores_, codes_, graph_, settings_.width, worker.scratch);
    const Beam &beam = worker.scratch.beam;
    worker.candidates.clear();
    for (std::size_t i = 0; i < beam.size(); ++i) {
        const std::int32_t other = beam.row(i);
        if (other != row) worker.candidates.push_back({distance(row, beam.score(i)), other});
    }
    prune(row, worker);
}

void GraphBuilder::gather(std::int32_t row, Worker &worker) {
    const std::size_t count = worker.rows.size();
    worker.sums.resize(std::max(worker.sums.size(), count));
    worker.scores.resize(std::max(worker.scores.size(), count));
    queries_.ask(row, worker.query);
    worker.query.score(scores_, codes_, worker.rows.data(), count, worker.sums.data(), worker.scores.data());
    worker.candidates.clear();
    for (std::size_t i = 0; i < count; ++i) {
        worker.candidates.push_back({distance(row, worker.scores[i]), worker.rows[i]});
    }
}

void GraphBuilder::link_back(std::int32_t row, const std::int32_t *others, std::size_t count, Worker &worker) {
    std::int32_t *own = of(row);
    std::size_t size = 0;
    while (size < room_ && own[size] >= 0) ++size;
    if (row == entry_) {
        // It keeps the rows that came first, wherever they are: with its nearest ones instead, walks that start in a
        // tight cluster of more rows than a row has edges would never leave it.
        for (std::size_t i = 0; i < count && size < settings_.degree; ++i) {
            if (std::find(own, own + size, others[i]) == own + size) own[size++] = others[i];
        }
        return;
    }
    worker.rows.assign(own, own + size);
    for (std::size_t i = 0; i < count; ++i) {
        if (others[i] != row && std::find(own, own + size, others[i]) == own + size) worker.rows.push_back(others[i]);
    }
    if (worker.rows.size() <= room_) {
        std::copy(worker.rows.begin(), worker.rows.end(), own);
        return;
    }
    gather(row, worker);
    prune(row, worker);
}

void GraphBuilder::prune(std::int32_t row, Worker &worker) {
    std::vector<Candidate> &left = worker.candidates;
    std::sort(left.begin(), left.end(), nearer);
    worker.kept.clear();
    worker.refused.clear();
    const float alpha = settings_.alpha * settings_.alpha;
    std::size_t first = 0;
    while (first < left.size() && worker.kept.size() < settings_.degree) {
        const std::int32_t near = left[first++].row;
        worker.kept.push_back(near);
        const std::size_t count = left.size() - first;
        if (count == 0) break;
        worker.rows.resize(count);
        worker.sums.resize(std::max(worker.sums.size(), count));
        worker.scores.resize(std::max(worker.scores.size(), count));
        for (std::size_t i = 0; i < count; ++i) worker.rows[i] = left[first + i].row;
        queries_.ask(near, worker.query);
        worker.query.score(scores_, codes_, worker.rows.data(), count, worker.sums.data(), worker.scores.data());
        std::size_t stays = first;
        for (std::size_t i = 0; i < count; ++i) {
            const Candidate &one = left[first + i];
            if (alpha * distance(near, worker.scores[i]) > one.distance) {
                left[stays++] = one;
            } else {
                worker.refused.push_back(one);
            }
        }
        left.resize(stays);
    }
    // Room that is left goes to the nearest of those that were left out: without it recall@10 on hubs-256 stopped at
    // .93.
    std::sort(worker.refused.begin(), worker.refused.end(), nearer);
    for (const Candidate &one : worker.refused) {
        if (worker.kept.size() == settings_.degree) break;
        worker.kept.push_back(one.row);
    }
    std::int32_t *own = of(row);
    std::copy(worker.kept.begin(), worker.kept.end(), own);
    std::fill(own + worker.kept.size(), own + room_, -1);
}

void GraphBuilder::finish(std::int32_t *out, std::size_t threads) {
    threads = std::clamp<std::size_t>(threads, 1, kMostThreads);
    if (workers_.size() < threads) workers_.resize(threads);
    in_parallel(codes_.count, threads, [&](std::size_t worker, std::size_t i) {
        const auto row = static_cast<std::int32_t>(i);
        if (of(row)[settings_.degree] >= 0) {
            Worker &own = workers_[worker];
            own.rows.assign(of(row), std::find(of(row), of(row) + room_, -1));
            gather(row, own);
            prune(row, own);
        }
        std::copy(of(row), of(row) + settings_.degree, out + i * settings_.degree);
    });
    for (int round = 0; round < kConnectRounds && !connect(out); ++round) {
    }
}

bool GraphBuilder::connect(std::int32_t *out) {
    const std::size_t degree = settings_.degree;
    std::vector<bool> reached(codes_.count, false);
    std::vector<std::int32_t> sources(codes_.count, 0), waiting;
    for (std::size_t i = 0; i < codes_.count * degree; ++i) {
        if (out[i] >= 0) ++sources[static_cast<std::size_t>(out[i])];
    }
    const auto spread = [&](std::int32_t from) {
        reached[static_cast<std::size_t>(from)] = true;
        waiting.push_back(from);
        while (!waiting.empty()) {
            const std::int32_t *next = out + static_cast<std::size_t>(waiting.back()) * degree;
            waiting.pop_back();
            for (std::size_t i = 0; i < degree && next[i] >= 0; ++i) {
                if (reached[static_cast<std::size_t>(next[i])]) continue;
                reached[static_cast<std::size_t>(next[i])] = true;
                waiting.push_back(next[i]);
            }
        }
    };
    spread(entry_);
    const Graph graph{out, codes_.count, degree, &entry_, 1};
    bool whole = true;
    Worker &worker = workers_.front();
    for (std::size_t i = 0; i < codes_.count; ++i) {
        if (reached[i] || !inserted_[i]) continue;
        whole = false;
        const auto row = static_cast<std::int32_t>(i);
        queries_.ask(row, worker.scratch.query);
        walk(scores_, codes_, graph, settings_.width, worker.scratch);
        const Beam &beam = worker.scratch.beam;
        for (std::size_t place = 0; place < beam.size() && !reached[i]; ++place) {
            if (beam.row(place) == entry_) continue;
            std::int32_t *own = out + static_cast<std::size_t>(beam.row(place)) * degree;
            for (std::size_t last = degree; last-- > degree / 2;) {
                if (own[last] >= 0 && sources[static_cast<std::size_t>(own[last])] < 2) continue;
                if (own[last] < 0 && last > 0 && own[last - 1] < 0) continue;
                if (own[last] >= 0) --sources[static_cast<std::size_t>(own[last])];
                own[last] = row;
                ++sources[i];
                spread(row);
                break;
            }
        }
    }
    return whole;
}

}  // namespace vss
