#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "bind/counter_dict.hpp"
#include "bind/journal_image.hpp"
#include "bind/receive_settings.hpp"
#include "bind/register.hpp"
#include "bind/session_text.hpp"
#include "receive/capabilities.hpp"
#include "receive/clock.hpp"
#include "receive/device_lines.hpp"
#include "receive/feed.hpp"

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
    if (stats.queues != 0) {
        out["attached"] = stats.attached;
        out["queues"] = stats.queues;
        out["huge_pages"] = stats.huge_pages;
        if (*stats.attached != '\0') out["frame_times"] = stats.frame_times;
    }
    out["accelerated"] = stats.accelerated;
    out["zero_copy"] = stats.zero_copy;
    return out;
}

// A source as a Python object, for tools and tests: the receive thread uses the C++ class itself.
class PollableSource {
  public:
    PollableSource(const std::vector<receive::LineSettings>& lines, const nb::dict& settings)
        : source_(receive::open_source(lines, receive_settings(settings))),
          batch_(lines.size() * receive::UdpReceiver::batch) {}
    PollableSource(const PollableSource&) = delete;  // a vector of sockets looks copyable to nanobind

    nb::list poll(unsigned hold_ms) {
        nb::list out;
        const std::size_t count = std::visit([this](auto& source) { return source.poll(batch_); }, source_);
        if (hold_ms != 0 && count != 0) {
            const nb::gil_scoped_release nogil;
            std::this_thread::sleep_for(std::chrono::milliseconds(hold_ms));
        }
        for (const Datagram& d : std::span(batch_).first(count)) {
            nb::bytes payload(reinterpret_cast<const char*>(d.data), d.length);
            out.append(nb::make_tuple(d.line, payload, d.ts_recv_ns, kind_name(d.timestamp_kind)));
        }
        return out;
    }
    nb::dict stats(std::size_t line) {
        return std::visit(
            [line](auto& source) {
                if (line >= source.line_count()) throw nb::index_error("line");
                source.refresh_stats();
                return stats_dict(source.stats(line));
            },
            source_);
    }
    nb::dict counters() {
        return std::visit(
            [](auto& source) {
                source.refresh_stats();
                return to_dict(words(source.counters()), receive_counter_info);
            },
            source_);
    }
    std::vector<int> fds() const {
        return std::visit(
            [](const auto& source) { return std::vector<int>(source.fds().begin(), source.fds().end()); },
            source_);
    }

  private:
    receive::AnySource source_;
    std::vector<Datagram> batch_;
};

// Which line a frame belongs to, for tests: what the receive modes ask of each frame.
class FrameLines {
  public:
    explicit FrameLines(const std::vector<receive::LineSettings>& lines) {
        for (std::size_t i = 0; i < lines.size(); ++i) table_.add(static_cast<std::uint16_t>(i), lines[i]);
    }
    nb::object take(const nb::bytes& frame, bool intact) {
        Datagram out{};
        if (!table_.take(reinterpret_cast<const std::uint8_t*>(frame.c_str()), frame.size(), intact, out,
                         counters_))
            return nb::none();
        return nb::make_tuple(out.line, nb::bytes(out.data, out.length));
    }
    nb::dict counters() const { return to_dict(words(counters_), receive_counter_info); }

  private:
    receive::LineTable table_;
    ReceiveCounters counters_;
};

// Address, port, user name, password.
using SnapshotText = std::tuple<std::string, std::uint16_t, std::string, std::string>;

// The filter of mode "xdp" for one device, for tests: what the kernel makes of it, frame by frame.
class XdpFilter {
  public:
    XdpFilter(const std::vector<receive::LineSettings>& lines, std::size_t largest_frame)
        : socket_(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)),
          filter_(table_of(lines), largest_frame, 1, "the filter") {
        receive::xdp::need(filter_.redirect(0, socket_.get()), "the filter", "its socket");
    }
    int run(const nb::bytes& frame) const {
        const int verdict = receive::xdp::test_run(
            filter_.program(), {reinterpret_cast<const std::uint8_t*>(frame.c_str()), frame.size()});
        receive::xdp::need(verdict >= 0, "the filter", "BPF_PROG_TEST_RUN");
        return verdict;
    }

  private:
    static receive::LineTable table_of(const std::vector<receive::LineSettings>& lines) {
        receive::LineTable out;
        for (std::size_t i = 0; i < lines.size(); ++i) out.add(static_cast<std::uint16_t>(i), lines[i]);
        return out;
    }

    receive::Descriptor socket_;
    receive::xdp::Filter filter_;
};

// The settings come one by one by keyword: what is missing or misspelt is an error.
void init_feed(receive::Feed* self, const std::vector<receive::LineSettings>& lines,
               const std::vector<std::pair<std::string, std::uint16_t>>& servers, const nb::dict& receive,
               const std::string& session, bool from_beginning, std::int64_t line_down_ns,
               std::int64_t arbitration_ns, std::int64_t timeout_ns, std::uint64_t retries,
               std::size_t max_outstanding, std::uint64_t requests_per_s, std::size_t hold_messages,
               const std::string& directory, const std::string& channel, const std::string& dataset,
               std::uint64_t epoch, std::uint32_t schema_mask, std::uint32_t depth,
               std::uint16_t publisher_id,
               const std::vector<std::pair<std::int64_t, std::uint32_t>>& trading_days,
               std::uint64_t ring_bytes, const std::vector<std::string>& symbols,
               std::uint64_t journal_ring_bytes, const std::optional<SnapshotText>& snapshot,
               std::uint64_t first_to_apply_offset, bool restart, std::uint32_t latency_sample_every) {
    receive::FeedSettings s;
    s.lines = lines;
    for (const auto& [address, port] : servers) s.servers.push_back({address, port});
    s.receive = receive_settings(receive);
    take(receive, "cpu", s.thread.cpu);
    take(receive, "priority", s.thread.priority);
    take(receive, "prefault_orders", s.prefault_orders);
    s.sequence.lines = lines.size();
    s.sequence.servers = servers.size();
    s.sequence.session = session;
    s.sequence.start = from_beginning ? sequence::Start::beginning : sequence::Start::live;
    s.sequence.line_down_ns = line_down_ns;
    s.sequence.arbitration_ns = arbitration_ns;
    s.sequence.timeout_ns = timeout_ns;
    s.sequence.retries = retries;
    s.sequence.max_outstanding = max_outstanding;
    s.sequence.requests_per_s = requests_per_s;
    s.sequence.hold_messages = hold_messages;
    s.channel.directory = directory;
    s.channel.channel = channel;
    s.channel.dataset = dataset;
    s.channel.epoch = epoch;
    s.channel.schema_mask = schema_mask;
    s.channel.depth = depth;
    s.channel.publisher_id = publisher_id;
    s.normalizer.trading_events = true;
    if (trading_days.empty()) throw nb::value_error("trading_days: at least one is needed");
    for (const auto& [midnight_ns, date] : trading_days) s.trading_days.push_back({midnight_ns, date});
    s.channel.midnight_ns = s.trading_days[0].midnight_ns;
    s.channel.trading_day = s.trading_days[0].date;
    s.channel.ring_bytes = ring_bytes;
    for (const auto& line : lines) s.channel.lines.push_back(line.name);
    for (const auto& [address, port] : servers)
        s.channel.servers.push_back(address + ":" + std::to_string(port));
    s.normalizer.midnight_ns = s.trading_days[0].midnight_ns;
    s.normalizer.publisher_id = publisher_id;
    s.normalizer.exchange = dataset.substr(0, dataset.find('.'));
    s.normalizer.symbols = symbols;
    s.journal_ring_bytes = journal_ring_bytes;
    s.sequence.restart = restart;
    s.latency_sample_every = latency_sample_every;
    if (snapshot) {
        const auto& [address, port, username, password] = *snapshot;
        s.snapshot = snapshot::LoaderSettings{address, port, username, password, s.normalizer.limits};
        s.sequence.snapshot = true;
        s.sequence.first_to_apply_offset = first_to_apply_offset;
    }
    const nb::gil_scoped_release nogil;
    new (self) receive::Feed(s);
}

nb::list feed_events(receive::Feed& feed) {
    nb::list out;
    while (const auto event = feed.events().pop()) {
        nb::dict entry;
        entry["ts_ns"] = event->ts_ns;
        entry["type"] = static_cast<unsigned>(event->type);
        entry["state"] = static_cast<unsigned>(event->state);
        entry["previous"] = static_cast<unsigned>(event->previous);
        entry["first"] = event->first;
        entry["last"] = event->last;
        entry["line"] = event->line;
        entry["now"] = event->now;
        entry["before"] = event->before;
        entry["session"] = session_text(event->session, sizeof(event->session));
        out.append(entry);
    }
    return out;
}

void register_feed(nb::module_& m) {
    nb::class_<receive::Feed>(
        m, "Feed", "The receive thread of a channel and all that hangs on it; for feedhandler.daemon.")
        .def("__init__", &init_feed, nb::kw_only(), nb::arg("lines"), nb::arg("servers"), nb::arg("receive"),
             nb::arg("session"), nb::arg("from_beginning"), nb::arg("line_down_ns"),
             nb::arg("arbitration_ns"), nb::arg("timeout_ns"), nb::arg("retries"), nb::arg("max_outstanding"),
             nb::arg("requests_per_s"), nb::arg("hold_messages"), nb::arg("directory"), nb::arg("channel"),
             nb::arg("dataset"), nb::arg("epoch"), nb::arg("schema_mask"), nb::arg("depth"),
             nb::arg("publisher_id"), nb::arg("trading_days"), nb::arg("ring_bytes"), nb::arg("symbols"),
             nb::arg("journal_ring_bytes") = 0, nb::arg("snapshot") = nb::none(),
             nb::arg("first_to_apply_offset") = 0, nb::arg("restart") = false,
             nb::arg("latency_sample_every") = 0,
             "Join the lines and make the channel. Raises RuntimeError or RunError with the reason when it "
             "cannot.")
        .def("start", &receive::Feed::start, nb::call_guard<nb::gil_scoped_release>(),
             "Start the receive thread.")
        .def(
            "stop",
            [](receive::Feed& feed, unsigned timeout_ms) {
                return feed.stop(std::chrono::milliseconds(timeout_ms));
            },
            nb::arg("timeout_ms"), nb::call_guard<nb::gil_scoped_release>(),
            "End the receive thread; False when it does not within the time.")
        .def(
            "set_clock",
            [](receive::Feed& feed, const nb::dict& seen, bool trusted) {
                ClockCounters clock;
                from_dict(words(clock), clock_counter_info, seen);
                feed.set_clock(clock, trusted);
            },
            nb::arg("seen"), nb::arg("always_trusted") = false,
            "Tell what was seen of the host's clocks, by the names of the counters' group `clock`; before "
            "start(), and again and again. Until then no time is trusted. `always_trusted`: the clocks "
            "do not count when a time is judged.")
        .def_prop_ro("running", &receive::Feed::running, "Is the receive thread in its loop?")
        .def_prop_ro("progress", &receive::Feed::progress, "Grows while the receive thread works.")
        .def_prop_ro("state", [](const receive::Feed& feed) { return static_cast<unsigned>(feed.state()); })
        .def_prop_ro("memory_locked", &receive::Feed::memory_locked, "Was mlockall granted?")
        .def_prop_ro("prefaulted_bytes", &receive::Feed::prefaulted_bytes,
                     "Memory of the books taken at the start; ask after start().")
        .def("events", &feed_events, "Events since the last call, for the log; one thread only.")
        .def("take_snapshot_failure", &receive::Feed::take_snapshot_failure,
             "Why the last snapshot could not be loaded, once; empty: nothing new.")
        .def_prop_ro(
            "restart_state",
            [](receive::Feed& feed) {
                constexpr const char* names[] = {"waiting", "wanted", "failed", "over"};
                return names[static_cast<std::size_t>(feed.restart().state())];
            },
            "waiting (for the first packet), wanted (books for its session), failed (the last choice did not "
            "help: make another), over.")
        .def_prop_ro(
            "restart_session",
            [](receive::Feed& feed) { return nb::bytes(feed.restart().session().c_str(), 10); },
            "Ten bytes; of a restart that is wanted.")
        .def_prop_ro(
            "restart_first", [](receive::Feed& feed) { return feed.restart().first(); },
            "Number at which that session was joined.")
        .def(
            "restart_by",
            [](receive::Feed& feed, const std::string& choice) {
                using Choice = receive::Restart::Choice;
                if (choice != "snapshot" && choice != "nothing") throw nb::value_error("choice");
                feed.restart().choose(choice == "snapshot" ? Choice::snapshot : Choice::nothing);
            },
            nb::arg("choice"), "Take the books from a snapshot, or from nowhere.")
        .def(
            "restart_by_journal",
            [](receive::Feed& feed, JournalImage& image) { feed.restart().offer(image.take()); },
            nb::arg("image"), "Take these books; the image is empty afterwards.")
        .def(
            "drop_image", [](receive::Feed& feed) { feed.restart().drop_image(); },
            nb::call_guard<nb::gil_scoped_release>(), "Free the image, when the restart is over.")
        .def("take_receive_log", &receive::Feed::take_receive_log,
             "What the libraries of the receive mode have said since the last call: lines.")
        .def_prop_ro("events_lost", [](receive::Feed& feed) { return feed.events().lost(); })
        .def(
            "granted",
            [](const receive::Feed& feed, std::size_t line) { return stats_dict(feed.granted(line)); },
            nb::arg("line"), "What the kernel granted to a line; ask before start().");
}

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
        m, "Source",
        "Joined lines in one of the receive modes; OSError-like RuntimeError when they cannot be had so.")
        .def(nb::init<const std::vector<receive::LineSettings>&, const nb::dict&>(), nb::arg("lines"),
             nb::arg("settings") = nb::dict(),
             "`settings`: as the table [receive], with what it lacks by default.")
        .def("poll", &PollableSource::poll, nb::arg("hold_ms") = 0,
             "What has arrived: a list of (line, payload, ts_recv_ns, kind of time). `hold_ms`: so long the "
             "payloads stay where they are before they are copied, as if they were worked on there.")
        .def("stats", &PollableSource::stats, nb::arg("line"), "What the kernel granted and dropped.")
        .def("counters", &PollableSource::counters, "The counters `receive` of `stat`.")
        .def("fds", &PollableSource::fds, "Descriptors to wait on.");

    nb::class_<FrameLines>(m, "FrameLines", "The lines of one device, and which of them a frame is of.")
        .def(nb::init<const std::vector<receive::LineSettings>&>(), nb::arg("lines"))
        .def("take", &FrameLines::take, nb::arg("frame"), nb::arg("intact") = false,
             "(line, payload), or None: then a counter says why. `intact`: the checksums were looked at.")
        .def_prop_ro("counters", &FrameLines::counters);

    nb::class_<XdpFilter>(m, "XdpFilter",
                          "The filter of mode \"xdp\" for one device, loaded but not attached.")
        .def(nb::init<const std::vector<receive::LineSettings>&, std::size_t>(), nb::arg("lines"),
             nb::arg("largest_frame"))
        .def("run", &XdpFilter::run, nb::arg("frame"),
             "What the kernel says it would do with an Ethernet frame: 2 pass it on, 4 give it to a socket.");
    m.def(
        "btf_function",
        [](const nb::bytes& btf, const std::string& name) {
            return receive::xdp::function_in({btf.c_str(), btf.size()}, name);
        },
        nb::arg("btf"), nb::arg("name"),
        "Number of a function in the kernel's description of its types; 0: it is not there.");
    m.def("default_dpdk_plugin", &receive::default_dpdk_plugin,
          "Where the build puts the plugin of receive.mode \"dpdk\", if it makes one.");

    register_feed(m);
    m.def("limit_capabilities", &receive::limit_capabilities, nb::arg("kept"),
          nb::call_guard<nb::gil_scoped_release>(),
          "Take from all threads of this process, for good, the capabilities that are not bits of `kept`. "
          "Raises RuntimeError when that cannot be had.");

    m.def(
        "onload_present", [] { return receive::onload::Library().present(); },
        "Is Onload's library in this process? That does not say that it accelerates any socket.");
    m.def(
        "why_not_accelerated", [] { return receive::why_not_accelerated(receive::onload::Library()); },
        "Why a line in receive mode onload that is not accelerated is not.");

    nb::class_<receive::FeedClock>(m, "FeedClock",
                                   "UTC ns from given readings of the two clocks; never runs backwards.")
        .def(nb::init<std::int64_t, std::int64_t>(), nb::arg("monotonic_ns"), nb::arg("realtime_ns"))
        .def("anchor", &receive::FeedClock::anchor, nb::arg("monotonic_ns"), nb::arg("realtime_ns"))
        .def("now_ns", &receive::FeedClock::now_ns);
}

}  // namespace fh::bind
