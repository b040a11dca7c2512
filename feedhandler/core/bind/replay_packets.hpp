// Packets to be sent out, for the bindings.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>

#include "bind/replay_input.hpp"
#include "replay/packet_feed.hpp"

namespace fh::bind {

// The packets of an input as lossy lines carry them, for sending them out.
class Packets : public ReplayInput {
  public:
    Packets(const nb::object& data, bool binary, const std::vector<GroupText>& groups, std::size_t lines,
            const receive::Faults& faults, std::uint64_t seed)
        : ReplayInput(data, binary, groups), lines_(lines), faults_(faults), seed_(seed) {}

    void start() {
        feed_ =
            std::make_unique<replay::PacketFeed>(input(), scanned(), lines_, copy_to_all(), faults_, seed_);
    }

    // [(line, payload)] of the packets up to `until_ns`, at most `packets` of the input, none of a new
    // session.
    nb::list take(std::uint64_t packets, std::int64_t until_ns) {
        nb::list out;
        for (std::uint64_t i = 0; i < packets && feed().next_packet_ns() <= until_ns; ++i) {
            if (feed().at_new_session()) break;
            feed().next([&](const Datagram& datagram) { append(out, datagram); });
        }
        return out;
    }
    // The first packet of the next session may be taken. Returns the session's index.
    std::size_t open_session() { return feed().open_session(); }
    nb::list end_session() {
        nb::list out;
        feed().end_session([&](const Datagram& datagram) { append(out, datagram); });
        return out;
    }

    // [(first number, count, blocks)] of all that a session holds.
    nb::list runs(std::size_t session) const {
        nb::list out;
        for (const auto& run : scanned().sessions.at(session).store.runs()) {
            out.append(nb::make_tuple(run.first, run.count, nb::bytes(run.blocks, run.bytes)));
        }
        return out;
    }

    nb::dict counts() {
        nb::dict out;
        std::uint64_t dropped = 0, duplicated = 0, reordered = 0, corrupted = 0;
        nb::list delivered;
        for (std::size_t line = 0; line < lines_; ++line) {
            const auto& one = feed().faults(line);
            dropped += one.dropped;
            duplicated += one.duplicated;
            reordered += one.reordered;
            corrupted += one.corrupted;
            delivered.append(one.delivered);
        }
        out["dropped"] = dropped;
        out["duplicated"] = duplicated;
        out["reordered"] = reordered;
        out["corrupted"] = corrupted;
        out["delivered"] = delivered;
        return out;
    }

    replay::PacketFeed& feed() {
        if (!feed_) throw std::runtime_error("start() comes first");
        return *feed_;
    }

  private:
    static void append(nb::list& out, const Datagram& datagram) {
        out.append(nb::make_tuple(datagram.line, nb::bytes(datagram.data, datagram.length)));
    }

    std::size_t lines_;
    receive::Faults faults_;
    std::uint64_t seed_;
    std::unique_ptr<replay::PacketFeed> feed_;
};

}  // namespace fh::bind
