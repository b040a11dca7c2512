#include <nanobind/stl/string.h>

#include <string>

#include "bind/register.hpp"
#include "receive/lossy.hpp"
#include "simulate/exchange.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {

namespace {

nb::bytes next_records(simulate::Exchange& exchange, std::size_t bytes) {
    std::span<const std::uint8_t> records;
    {
        nb::gil_scoped_release release;
        records = exchange.next(bytes);
    }
    return nb::bytes(records.data(), records.size());
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

void register_lossy(nb::module_& m) {
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
            "messages: of the whole day, exactly (0: until finish). symbols: 1..65534. max_orders: resting "
            "at once, a bound of memory.")
        .def("next", &next_records, "bytes"_a = 1u << 20,
             "Some more BinaryFILE records (u16 big-endian length + message), about `bytes` of them; empty: "
             "the day is over.")
        .def("finish", &simulate::Exchange::finish, "Close the market now and end the day.")
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
}

}  // namespace fh::bind
