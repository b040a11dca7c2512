#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind/register.hpp"
#include "receive/clock.hpp"
#include "receive/socket.hpp"

namespace nb = nanobind;

namespace fh::bind {
namespace {

const char* kind_name(TimestampKind kind) {
    constexpr const char* names[] = {"none", "user", "kernel", "hardware"};
    return names[static_cast<std::size_t>(kind)];
}

nb::dict stats_dict(const receive::SourceStats& stats) {
    nb::dict out;
    out["kernel_drops"] = stats.kernel_drops;
    out["buffer_bytes"] = stats.buffer_bytes;
    out["buffer_forced"] = stats.buffer_forced;
    out["napi_id"] = stats.napi_id;
    out["timestamp_kind"] = kind_name(stats.timestamp_kind);
    out["busy_poll"] = stats.busy_poll;
    out["prefer_busy_poll"] = stats.prefer_busy_poll;
    return out;
}

// A source as a Python object, for tools and tests: the receive thread uses the C++ class itself.
class PollableSource {
  public:
    PollableSource(const std::vector<receive::LineSettings>& lines, bool spin)
        : source_(lines, spin), batch_(lines.size() * receive::UdpReceiver::batch) {}
    PollableSource(const PollableSource&) = delete;  // a vector of sockets looks copyable to nanobind

    nb::list poll() {
        nb::list out;
        const std::size_t count = source_.poll(batch_);
        for (const Datagram& d : std::span(batch_).first(count)) {
            nb::bytes payload(reinterpret_cast<const char*>(d.data), d.length);
            out.append(nb::make_tuple(d.line, payload, d.ts_recv_ns, kind_name(d.timestamp_kind)));
        }
        return out;
    }
    nb::dict stats(std::size_t line) {
        if (line >= source_.line_count()) throw nb::index_error("line");
        source_.refresh_stats();
        return stats_dict(source_.stats(line));
    }
    std::vector<int> fds() const { return {source_.fds().begin(), source_.fds().end()}; }

  private:
    receive::SocketSource source_;
    std::vector<Datagram> batch_;
};

}  // namespace

void register_receive(nb::module_& m) {
    nb::class_<receive::LineSettings>(m, "LineSettings")
        .def(
            "__init__",
            [](receive::LineSettings* self, std::string name, std::string group, std::uint16_t port,
               std::string interface, std::string source) {
                new (self) receive::LineSettings{std::move(name), std::move(group), port,
                                                 std::move(interface), std::move(source)};
            },
            nb::arg("name"), nb::arg("group"), nb::arg("port"), nb::arg("interface"), nb::arg("source") = "");

    nb::class_<PollableSource>(
        m, "SocketSource", "Joined multicast sockets, one a line; OSError-like RuntimeError when it cannot.")
        .def(nb::init<const std::vector<receive::LineSettings>&, bool>(), nb::arg("lines"),
             nb::arg("spin") = false)
        .def("poll", &PollableSource::poll,
             "What has arrived: a list of (line, payload, ts_recv_ns, kind of time).")
        .def("stats", &PollableSource::stats, nb::arg("line"), "What the kernel granted and dropped.")
        .def("fds", &PollableSource::fds, "Descriptors to wait on.");

    nb::class_<receive::FeedClock>(m, "FeedClock",
                                   "UTC ns from given readings of the two clocks; never runs backwards.")
        .def(nb::init<std::int64_t, std::int64_t>(), nb::arg("monotonic_ns"), nb::arg("realtime_ns"))
        .def("anchor", &receive::FeedClock::anchor, nb::arg("monotonic_ns"), nb::arg("realtime_ns"))
        .def("now_ns", &receive::FeedClock::now_ns);
}

}  // namespace fh::bind
