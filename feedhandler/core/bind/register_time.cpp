// Receive times for tests: what comes out of control messages, and what is trusted.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>

#include <cstdint>
#include <optional>
#include <span>
#include <tuple>

#include "bind/register.hpp"
#include "receive/dpdk/device_clock.hpp"
#include "receive/receive_time.hpp"
#include "receive/timestamping.hpp"

namespace nb = nanobind;

namespace fh::bind {
namespace {

using Read = std::tuple<unsigned, std::int64_t, std::optional<std::uint32_t>>;

Read read_control(const nb::bytes& control) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(control.c_str());
    const receive::ControlTimes times = receive::read_control({bytes, control.size()});
    Datagram datagram{};
    receive::set_receive_time(datagram, times);
    return {static_cast<unsigned>(datagram.timestamp_kind), datagram.ts_recv_ns, times.drops};
}

std::tuple<std::int64_t, bool> receive_time(unsigned kind, std::int64_t ts_recv_ns, std::int64_t now_ns,
                                            bool system_trusted, bool hardware_trusted,
                                            std::int64_t hardware_lead_ns, std::int64_t feed_error_ns) {
    Datagram datagram{};
    datagram.timestamp_kind = static_cast<TimestampKind>(kind);
    datagram.ts_recv_ns = ts_recv_ns;
    datagram = receive::with_receive_time(
        datagram, now_ns, {system_trusted, hardware_trusted, hardware_lead_ns, feed_error_ns});
    return {datagram.ts_recv_ns, is_doubtful(datagram.timestamp_kind)};
}

}  // namespace

void register_time(nb::module_& m) {
    m.def("read_control", &read_control, nb::arg("control"),
          "(number of the kind, ts_recv_ns, drops or None) out of a datagram's control messages.");
    nb::class_<receive::DeviceClock>(m, "DeviceClock")
        .def(nb::init<>())
        .def("compare", &receive::DeviceClock::compare, nb::arg("ticks"), nb::arg("monotonic_ns"),
             nb::arg("realtime_ns"))
        .def_prop_ro("known", &receive::DeviceClock::known)
        .def("utc_ns", &receive::DeviceClock::utc_ns, nb::arg("ticks"));
    m.def("receive_time", &receive_time, nb::arg("kind"), nb::arg("ts_recv_ns"), nb::arg("now_ns"),
          nb::kw_only(), nb::arg("system_trusted"), nb::arg("hardware_trusted"),
          nb::arg("hardware_lead_ns") = 0, nb::arg("feed_error_ns") = 0,
          "(ts_recv_ns in UTC, whether it is not to be trusted) of a time of that kind.");
}

}  // namespace fh::bind
