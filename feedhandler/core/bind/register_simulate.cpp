#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "bind/register.hpp"
#include "receive/lossy.hpp"
#include "receive/memory.hpp"
#include "simulate/broadcast.hpp"
#include "simulate/exchange.hpp"
#include "simulate/pcap.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {

namespace {

template <class Stream>
nb::bytes next_bytes(Stream& stream, std::size_t bytes) {
    std::span<const std::uint8_t> some;
    {
        nb::gil_scoped_release release;
        some = stream.next(bytes);
    }
    return nb::bytes(some.data(), some.size());
}

nb::dict message_counts(const simulate::Exchange& exchange) {
    nb::dict counts;
    for (char type : std::string_view("SRHYLVWKJhAFECXDUPQBINO")) {
        counts[nb::str(&type, 1)] = exchange.market().out.count(type);
    }
    return counts;
}

// A lossy line for tests and tools: packets in, packets out.
class PyLossyLine {
  public:
    PyLossyLine(const receive::Faults& faults, std::uint64_t seed, unsigned line)
        : line_(faults, seed, line) {
        line_.log_losses(1u << 20);
    }
    nb::list push(nb::bytes packet, std::int64_t ts_recv_ns) {
        nb::list out;
        line_.push({static_cast<const std::uint8_t*>(packet.data()),
                    static_cast<std::uint32_t>(packet.size()), 0, TimestampKind::none, ts_recv_ns},
                   [&](const Datagram& d) { out.append(nb::bytes(d.data, d.length)); });
        line_.recycle();
        return out;
    }
    nb::list flush() {
        nb::list out;
        line_.flush(0, [&](const Datagram& d) { out.append(nb::bytes(d.data, d.length)); });
        line_.recycle();
        return out;
    }
    nb::list losses() const {
        nb::list out;
        for (const SequenceRange& range : line_.losses()) out.append(nb::make_tuple(range.first, range.end));
        return out;
    }
    nb::dict counts() const { return fault_counts(line_.counts()); }

    static nb::dict fault_counts(const receive::FaultCounts& c) {
        nb::dict out;
        out["offered"] = c.offered;
        out["delivered"] = c.delivered;
        out["dropped"] = c.dropped;
        out["duplicated"] = c.duplicated;
        out["reordered"] = c.reordered;
        out["corrupted"] = c.corrupted;
        out["offered_messages"] = c.offered_messages;
        out["lost_messages"] = c.lost_messages;
        return out;
    }

  private:
    receive::LossyLine line_;
};

static_assert(receive::Source<receive::LossySource<receive::MemorySource>>);

// All that a lossy source over memory gives, polled `room` packets at a time: (line, packet).
nb::list poll_lossy(const std::vector<std::pair<std::uint16_t, nb::bytes>>& packets,
                    const receive::Faults& faults, std::size_t lines, std::uint64_t seed, std::size_t room) {
    receive::MemorySource memory(lines);
    for (const auto& [line, packet] : packets) {
        memory.add(line, {static_cast<const std::uint8_t*>(packet.data()), packet.size()});
    }
    receive::LossySource source(memory, std::vector(lines, faults), seed);
    std::vector<Datagram> out(room);
    nb::list all;
    bool finished = false;
    while (true) {
        const std::size_t count = source.poll(out);
        for (std::size_t i = 0; i < count; ++i)
            all.append(nb::make_tuple(out[i].line, nb::bytes(out[i].data, out[i].length)));
        if (count > 0) continue;
        if (finished) return all;
        if (memory.exhausted()) {
            finished = true;
            source.finish(0);
        }
    }
}

void register_lossy(nb::module_& m) {
    m.def(
        "poll_lossy",
        [](const std::vector<std::pair<std::uint16_t, nb::bytes>>& packets, std::size_t lines,
           std::uint64_t seed, std::size_t room, double drop, double drop_burst, double duplicate,
           double reorder, double corrupt) {
            return poll_lossy(packets, {drop, drop_burst, duplicate, reorder, corrupt}, lines, seed, room);
        },
        "packets"_a, "lines"_a, "seed"_a, "room"_a, nb::kw_only(), "drop"_a = 0.0, "drop_burst"_a = 1.0,
        "duplicate"_a = 0.0, "reorder"_a = 0.0, "corrupt"_a = 0.0,
        "What a lossy source gives for these (line, packet), polled `room` at a time; for tests.");
    nb::class_<PyLossyLine>(m, "LossyLine",
                            "Faults on one line: loss in bursts, duplicates, reordering, damage.")
        .def(
            "__init__",
            [](PyLossyLine* self, double drop, double drop_burst, double duplicate, double reorder,
               double corrupt, std::uint64_t seed, unsigned line) {
                new (self) PyLossyLine({drop, drop_burst, duplicate, reorder, corrupt}, seed, line);
            },
            nb::kw_only(), "drop"_a = 0.0, "drop_burst"_a = 1.0, "duplicate"_a = 0.0, "reorder"_a = 0.0,
            "corrupt"_a = 0.0, "seed"_a = 0, "line"_a = 0u,
            "Probabilities 0..1; drop_burst: mean length of a loss burst, packets.")
        .def("push", &PyLossyLine::push, "packet"_a, "ts_recv_ns"_a = 0,
             "The packets that come out for this one.")
        .def("flush", &PyLossyLine::flush, "The packets still delayed.")
        .def_prop_ro("losses", &PyLossyLine::losses,
                     "Ranges [first, end) of message numbers that the line did not bring.")
        .def_prop_ro("counts", &PyLossyLine::counts);
}

void register_pcap(nb::module_& m) {
    nb::class_<simulate::PcapEncoder>(m, "PcapEncoder",
                                      "A simulated day as a nanosecond pcap file of MoldUDP64 packets.")
        .def(
            "__init__",
            [](simulate::PcapEncoder* self, simulate::Exchange& exchange, const std::string& session,
               const std::vector<std::pair<std::uint32_t, std::uint16_t>>& groups, std::int64_t midnight_ns,
               std::int64_t skew_ns) {
                if (session.size() != frame::mold_session_bytes)
                    throw nb::value_error("a session has ten characters");
                std::vector<simulate::PcapLine> lines;
                for (const auto& [group, port] : groups) lines.push_back({group, port});
                new (self) simulate::PcapEncoder(exchange, session, lines, midnight_ns, skew_ns);
            },
            "exchange"_a, "session"_a, "groups"_a, "midnight_ns"_a, "skew_ns"_a = 3000,
            nb::keep_alive<1, 2>(),
            "groups: (IPv4 address as an integer, port) of each line. midnight_ns: UTC of the exchange's "
            "midnight. "
            "skew_ns: how much later each further line brings a packet.")
        .def("next", &next_bytes<simulate::PcapEncoder>, "bytes"_a = 1u << 20,
             "Some more of the file; empty: complete.")
        .def_prop_ro("packets", &simulate::PcapEncoder::packets, "Packets so far, of one line.");
}

using StoreMemory = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Owns copies of what the broadcast was told; keeps the exchange and the store's memory alive.
class PyBroadcast {
  public:
    PyBroadcast(simulate::Exchange& exchange, const simulate::BroadcastSettings& settings,
                const std::vector<simulate::LineTarget>& lines, std::uint64_t seed,
                std::optional<StoreMemory> store)
        : store_(std::move(store)), broadcast_(exchange, settings, lines, seed, memory()) {
        for (const auto& line : lines) names_.push_back(line.name);
    }
    simulate::Broadcast& operator*() { return broadcast_; }

    nb::dict counts() const {
        nb::dict out;
        for (std::size_t i = 0; i < names_.size(); ++i) {
            out[names_[i].c_str()] = PyLossyLine::fault_counts(broadcast_.sender().counts(i));
        }
        return out;
    }

  private:
    std::span<std::uint8_t> memory() const {
        return store_ ? std::span(store_->data(), store_->size()) : std::span<std::uint8_t>();
    }
    std::optional<StoreMemory> store_;
    simulate::Broadcast broadcast_;
    std::vector<std::string> names_;
};

void register_broadcast(nb::module_& m) {
    nb::class_<simulate::LineTarget>(m, "LineTarget",
                                     "A multicast group to send to, and the faults of the line.")
        .def(
            "__init__",
            [](simulate::LineTarget* self, const std::string& name, const std::string& group,
               std::uint16_t port, const std::string& interface, int ttl, double drop, double drop_burst,
               double duplicate, double reorder, double corrupt) {
                new (self) simulate::LineTarget{
                    name, group, port, interface, ttl, {drop, drop_burst, duplicate, reorder, corrupt}};
            },
            "name"_a, "group"_a, "port"_a, "interface"_a = "127.0.0.1", "ttl"_a = 1, nb::kw_only(),
            "drop"_a = 0.0, "drop_burst"_a = 1.0, "duplicate"_a = 0.0, "reorder"_a = 0.0, "corrupt"_a = 0.0,
            "interface: an address or a device name. Faults: probabilities 0..1 per packet; drop_burst: "
            "packets.");
    nb::class_<PyBroadcast>(m, "Broadcast",
                            "Sends a simulated day as MoldUDP64 on multicast lines, paced by a clock.")
        .def(
            "__init__",
            [](PyBroadcast* self, simulate::Exchange& exchange,
               const std::vector<simulate::LineTarget>& lines, const std::string& session,
               std::uint64_t messages_per_s, std::uint64_t burst, std::int64_t lead_ns,
               std::int64_t linger_ns, std::uint64_t seed, std::optional<StoreMemory> store,
               bool same_faults) {
                if (session.size() != frame::mold_session_bytes)
                    throw nb::value_error("a session has ten characters");
                if (messages_per_s == 0 || messages_per_s > 1'000'000'000 || burst == 0)
                    throw nb::value_error("pace");
                new (self)
                    PyBroadcast(exchange, {session, messages_per_s, burst, lead_ns, linger_ns, same_faults},
                                lines, seed, std::move(store));
            },
            "exchange"_a, "lines"_a, nb::kw_only(), "session"_a, "messages_per_s"_a, "burst"_a = 1,
            "lead_ns"_a = 0, "linger_ns"_a = 3'000'000'000, "seed"_a = 1, "store"_a = nb::none(),
            "same_faults"_a = false, nb::keep_alive<1, 2>(),
            "messages_per_s: mean rate. burst: messages that are due at once. lead_ns: heartbeats before the "
            "first message. "
            "linger_ns: how long the end of session is repeated. store: writable memory of a message store "
            "that gets every "
            "packet. same_faults: the faults of all lines fall on the same packets. Raises RuntimeError when "
            "a "
            "line cannot be opened.")
        .def(
            "poll", [](PyBroadcast& self, std::int64_t now_ns) { return (*self).poll(now_ns); }, "now_ns"_a,
            "Send what is due by then, at most one batch; returns when to come again.")
        .def(
            "cut", [](PyBroadcast& self, std::int64_t now_ns) { (*self).cut(now_ns); }, "now_ns"_a,
            "End the session with what has been sent; for the thread that polls.")
        .def(
            "run", [](PyBroadcast& self) { (*self).run(); }, nb::call_guard<nb::gil_scoped_release>(),
            "Send until all is over, without the interpreter lock.")
        .def(
            "stop", [](PyBroadcast& self) { (*self).stop(); }, "End the session soon; for other threads.")
        .def_prop_ro("over", [](PyBroadcast& self) { return (*self).over(); })
        .def_prop_ro("messages", [](PyBroadcast& self) { return (*self).messages(); })
        .def_prop_ro(
            "packets", [](PyBroadcast& self) { return (*self).packets(); },
            "Data packets so far, of one line.")
        .def_prop_ro(
            "sending_ns", [](PyBroadcast& self) { return (*self).sending_ns(); },
            "From the first packet to the last.")
        .def_prop_ro("counts", &PyBroadcast::counts, "What each line did, by name; exact once it is over.");
}

}  // namespace

void register_simulate(nb::module_& m) {
    register_lossy(m);
    nb::class_<simulate::Exchange>(m, "Exchange",
                                   "A trading day of the simulated exchange, message by message (ITCH 5.0).")
        .def(
            "__init__",
            [](simulate::Exchange* self, std::uint64_t messages, std::uint32_t symbols, std::uint64_t seed,
               std::uint32_t max_orders) {
                new (self) simulate::Exchange({messages, symbols, seed, max_orders});
            },
            "messages"_a, "symbols"_a, "seed"_a, "max_orders"_a = 4u << 20,
            "messages: of the whole day, exactly (0: trading never closes). symbols: 1..65534. max_orders: "
            "resting "
            "at once, a bound of memory.")
        .def("next", &next_bytes<simulate::Exchange>, "bytes"_a = 1u << 20,
             "Some more BinaryFILE records (u16 big-endian length + message), about `bytes` of them; empty: "
             "the day is over.")
        .def_static("least_messages", &simulate::Exchange::least_messages, "symbols"_a,
                    "The fewest messages that such a day can have.")
        .def_prop_ro("over", &simulate::Exchange::over)
        .def_prop_ro("counts", &message_counts, "Messages so far, by type.")
        .def_prop_ro("messages", [](const simulate::Exchange& e) { return e.market().out.total(); })
        .def_prop_ro("live_orders", [](const simulate::Exchange& e) { return e.market().pool.live(); })
        .def_prop_ro("added_orders", [](const simulate::Exchange& e) { return e.market().added_orders(); })
        .def_prop_ro(
            "opened_levels", [](const simulate::Exchange& e) { return e.market().opened_levels(); },
            "Of the orders added, those that opened a price level.")
        .def_prop_ro(
            "adds_near", [](const simulate::Exchange& e) { return e.flow().adds_near(); },
            "Of the orders added, those within five levels of the best.");
    register_pcap(m);
    register_broadcast(m);
}

}  // namespace fh::bind
