// What is not in: the holes as they were found, the numbers in them still missing, and those given up but not
// yet reached.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "message.hpp"
#include "publish/counters.hpp"
#include "sequence/gap_history.hpp"
#include "sequence/sorted_ring.hpp"

namespace fh::sequence {

enum class Source : std::uint8_t { line, server };

// A stretch of numbers still missing; never reaches beyond its hole.
struct MissingRange {
    std::uint64_t first, end;
    std::int64_t ask_ns;  // the arbitration wait of its hole is over
};

// A hole as it was announced: never grows, never joins another.
struct Hole {
    std::uint64_t first, end;
    std::uint64_t missing;  // numbers neither in nor given up
    std::uint64_t lost;
    std::uint64_t index;  // in the history
};

// What became of a hole when a part of it was filled or given up.
struct HoleChange {
    SequenceRange hole;
    bool over;    // nothing of it is missing any more
    bool closed;  // and nothing of it was lost
};

class GapSet {
  public:
    GapSet(std::size_t ranges, GapCounters& counters, GapHistory& history)
        : missing_(ranges), holes_(ranges), lost_(2 * ranges), counters_(counters), history_(history) {}

    bool empty() const { return missing_.empty(); }
    std::size_t size() const { return missing_.size(); }
    const MissingRange& operator[](std::size_t i) const { return missing_[i]; }
    std::size_t find(std::uint64_t sequence) const { return missing_.find(sequence); }

    // Room for one more hole, and for what splits may need meanwhile.
    bool can_open() const { return missing_.size() + 1 < missing_.capacity() && !holes_.full(); }
    bool can_split() const { return !missing_.full(); }

    void open(SequenceRange range, std::int64_t now_ns, std::int64_t ask_ns) {
        missing_.insert(missing_.find(range.first), {range.first, range.end, ask_ns});
        holes_.insert(holes_.find(range.first),
                      {range.first, range.end, range.size(), 0, history_.open(now_ns, range)});
        ++counters_.total;
        ++counters_.open;
        counters_.messages += range.size();
    }

    // `part` lies within missing range i. A part that splits it needs can_split().
    HoleChange fill(std::size_t i, SequenceRange part, Source source, std::int64_t now_ns) {
        remove(i, part);
        (source == Source::line ? counters_.recovered_line : counters_.recovered_rewind) += part.size();
        return account(
            part, source == Source::line ? &GapRecord::recovered_line : &GapRecord::recovered_rewind, now_ns);
    }

    bool can_lose() const { return !lost_.full(); }
    HoleChange lose(std::size_t i, SequenceRange part, std::int64_t now_ns) {
        remove(i, part);
        counters_.unrecovered += part.size();
        const std::size_t at = lost_.find(part.first);
        if (at > 0 && lost_[at - 1].end == part.first) {
            lost_[at - 1].end = part.end;
            if (at < lost_.size() && lost_[at].first == part.end) {
                lost_[at - 1].end = lost_[at].end;
                lost_.erase(at);
            }
        } else if (at < lost_.size() && lost_[at].first == part.end) {
            lost_[at].first = part.first;
        } else {
            lost_.insert(at, part);
        }
        return account(part, &GapRecord::unrecovered, now_ns);
    }

    // The first range given up that the feed has not passed yet; null if none.
    const SequenceRange* next_lost() const { return lost_.empty() ? nullptr : &lost_.front(); }
    void pass_lost() { lost_.erase(0); }

    // A request went out for numbers of the hole around `sequence`.
    void count_request(std::uint64_t sequence) {
        const Hole& hole = holes_[holes_.find(sequence)];
        if (GapRecord* record = history_.find(hole.index)) ++record->requests;
    }

  private:
    void remove(std::size_t i, SequenceRange part) {
        MissingRange& range = missing_[i];
        if (part.first == range.first && part.end == range.end) {
            missing_.erase(i);
        } else if (part.first == range.first) {
            range.first = part.end;
        } else if (part.end == range.end) {
            range.end = part.first;
        } else {
            const MissingRange rest{part.end, range.end, range.ask_ns};
            range.end = part.first;
            missing_.insert(i + 1, rest);
        }
    }

    HoleChange account(SequenceRange part, std::uint64_t GapRecord::*how, std::int64_t now_ns) {
        const std::size_t i = holes_.find(part.first);
        Hole& hole = holes_[i];
        hole.missing -= part.size();
        if (how == &GapRecord::unrecovered) hole.lost += part.size();
        const HoleChange change{
            {hole.first, hole.end}, hole.missing == 0, hole.missing == 0 && hole.lost == 0};
        if (GapRecord* record = history_.find(hole.index)) {
            record->*how += part.size();
            if (change.over) record->closed_ns = now_ns;
        }
        if (change.over) {
            holes_.erase(i);
            --counters_.open;
        }
        return change;
    }

    SortedRing<MissingRange> missing_;
    SortedRing<Hole> holes_;
    SortedRing<SequenceRange> lost_;
    GapCounters& counters_;
    GapHistory& history_;
};

}  // namespace fh::sequence
