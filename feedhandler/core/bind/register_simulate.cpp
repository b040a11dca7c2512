#include <nanobind/stl/string.h>

#include <string>

#include "bind/register.hpp"
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

}  // namespace

void register_simulate(nb::module_& m) {
    nb::class_<simulate::Exchange>(m, "Exchange", "A trading day of the simulated exchange, message by message (ITCH 5.0).")
        .def("__init__",
             [](simulate::Exchange* self, std::uint64_t messages, std::uint32_t symbols, std::uint64_t seed, std::uint32_t max_orders) {
                 new (self) simulate::Exchange({messages, symbols, seed, max_orders});
             },
             "messages"_a, "symbols"_a, "seed"_a, "max_orders"_a = 4u << 20,
             "messages: of the whole day, exactly (0: until finish). symbols: 1..65534. max_orders: resting at once, a bound of memory.")
        .def("next", &next_records, "bytes"_a = 1u << 20,
             "Some more BinaryFILE records (u16 big-endian length + message), about `bytes` of them; empty: the day is over.")
        .def("finish", &simulate::Exchange::finish, "Close the market now and end the day.")
        .def_static("least_messages", &simulate::Exchange::least_messages, "symbols"_a, "The fewest messages that such a day can have.")
        .def_prop_ro("over", &simulate::Exchange::over)
        .def_prop_ro("counts", &message_counts, "Messages so far, by type.")
        .def_prop_ro("messages", [](const simulate::Exchange& e) { return e.market().out.total(); })
        .def_prop_ro("live_orders", [](const simulate::Exchange& e) { return e.market().pool.live(); })
        .def_prop_ro("added_orders", [](const simulate::Exchange& e) { return e.market().added_orders(); })
        .def_prop_ro("opened_levels", [](const simulate::Exchange& e) { return e.market().opened_levels(); },
                     "Of the orders added, those that opened a price level.")
        .def_prop_ro("adds_near", [](const simulate::Exchange& e) { return e.flow().adds_near(); },
                     "Of the orders added, those within five levels of the best.");
}

}  // namespace fh::bind
