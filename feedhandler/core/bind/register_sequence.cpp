// The arbiter for tests and tools: every call returns what it did, as a list of tuples in order.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>

#include <utility>
#include <vector>

#include "bind/counter_dict.hpp"
#include "bind/register.hpp"
#include "bind/trace.hpp"
#include "sequence/arbiter.hpp"

namespace nb = nanobind;

namespace fh::bind {
namespace {

struct TraceSink {
    Trace trace;
    nb::list states;  // as each event tells it
    nb::list announced;
    bool with_timestamps = false;
    bool with_recovery = false;  // servers and escalation too
    unsigned splice_slices = 1;  // calls that a splice takes
    unsigned splice_calls = 0;

    void on_messages(std::uint64_t first, std::span<const Message> messages, std::int64_t ts_recv_ns,
                     TimestampKind kind) {
        nb::list bytes;
        for (const Message& message : messages) bytes.append(nb::bytes(message.data, message.length));
        if (with_timestamps)
            trace.entries.append(
                nb::make_tuple("messages", first, bytes, ts_recv_ns, static_cast<int>(kind)));
        else
            trace.entries.append(nb::make_tuple("messages", first, bytes));
    }
    void on_clear(std::uint64_t sequence, std::int64_t) {
        trace.entries.append(nb::make_tuple("clear", sequence));
    }
    void on_lookahead(std::span<const Message> messages) {
        announced = nb::list();
        for (const Message& message : messages) announced.append(nb::bytes(message.data, message.length));
    }
    void on_event(const Event& event) {
        const bool recovery = event.type == EventType::server || event.type == EventType::escalation;
        if (recovery && !with_recovery) return;
        trace.on_event(event);
        states.append(state_name(event.state));
    }
    void start_snapshot(std::int64_t) { trace.on_start_snapshot(); }
    bool on_splice(std::uint64_t first_to_apply, std::uint64_t covered, std::int64_t) {
        trace.entries.append(nb::make_tuple("splice", first_to_apply, covered));
        if (++splice_calls < splice_slices) return false;
        splice_calls = 0;
        return true;
    }
    void send_request(std::size_t server, std::span<const std::uint8_t, 20> datagram) {
        trace.on_request(server, datagram);
    }
};

class TracedArbiter {
  public:
    TracedArbiter(const sequence::Settings& settings, bool with_timestamps, bool with_recovery,
                  unsigned splice_slices)
        : settings_(settings), arbiter_(settings, sink_, counters_) {
        sink_.with_timestamps = with_timestamps;
        sink_.with_recovery = with_recovery;
        sink_.splice_slices = splice_slices;
    }

    nb::list take_event_states() { return std::exchange(sink_.states, nb::list()); }

    nb::tuple look_ahead(const std::vector<nb::bytes>& payloads) {
        if (payloads.empty()) throw nb::value_error("payloads: at least one");
        struct Payload {
            const std::uint8_t* data;
            std::size_t length;
        };
        std::vector<Payload> datagrams;
        for (const nb::bytes& payload : payloads) datagrams.push_back({data(payload), payload.size()});
        sink_.announced = nb::list();
        const std::size_t count = arbiter_.look_ahead(std::span<const Payload>(datagrams));
        return nb::make_tuple(count, sink_.announced);
    }
    nb::list on_packet(std::size_t line, nb::bytes payload, std::int64_t now_ns, std::int64_t ts_recv_ns) {
        if (line >= settings_.lines) throw nb::index_error("line");
        arbiter_.on_packet(line, data(payload), payload.size(), ts_recv_ns, TimestampKind::user, now_ns);
        return take();
    }
    nb::list on_reply(std::size_t server, nb::bytes payload, std::int64_t now_ns, std::int64_t ts_recv_ns) {
        if (server >= settings_.servers) throw nb::index_error("server");
        arbiter_.on_reply(server, data(payload), payload.size(), ts_recv_ns, TimestampKind::user, now_ns);
        return take();
    }
    nb::list on_refused(std::size_t server, std::int64_t now_ns) {
        if (server >= settings_.servers) throw nb::index_error("server");
        arbiter_.on_refused(server, now_ns);
        return take();
    }
    nb::list on_timer(std::int64_t now_ns) {
        arbiter_.on_timer(now_ns);
        return take();
    }
    nb::list on_snapshot(std::uint64_t number, std::int64_t now_ns) {
        arbiter_.on_snapshot(number, now_ns);
        return take();
    }
    nb::list on_image(std::uint64_t first_to_apply, std::int64_t now_ns) {
        arbiter_.on_image(first_to_apply, now_ns);
        return take();
    }
    nb::list on_snapshot_failed(std::int64_t now_ns) {
        arbiter_.on_snapshot_failed(now_ns);
        return take();
    }
    void let_session_go() { arbiter_.let_session_go(); }
    std::int64_t next_deadline() const { return arbiter_.next_deadline(); }
    const char* state() const { return state_name(arbiter_.state()); }
    std::uint64_t next_sequence() const { return arbiter_.next_sequence(); }
    std::uint64_t held() const { return arbiter_.held(); }
    nb::bytes session() const {
        return nb::bytes(arbiter_.session(), strnlen(arbiter_.session(), frame::mold_session_bytes));
    }

    nb::dict counters() {
        arbiter_.refresh_counters();
        nb::dict out;
        nb::list lines;
        for (std::size_t i = 0; i < settings_.lines; ++i)
            lines.append(to_dict(words(counters_.lines[i]), line_counter_info));
        out["lines"] = lines;
        out["gaps"] = to_dict(words(counters_.gaps), gap_counter_info);
        out["recovery"] = to_dict(words(counters_.recovery), recovery_counter_info);
        out["escalation"] = to_dict(words(counters_.escalation), escalation_counter_info);
        nb::list servers;
        for (std::size_t i = 0; i < settings_.servers; ++i)
            servers.append(to_dict(words(counters_.servers[i]), server_counter_info));
        out["servers"] = servers;
        return out;
    }
    nb::list history() const {
        nb::list out;
        const auto& history = arbiter_.history();
        for (std::uint64_t i = history.count() > gap_history ? history.count() - gap_history : 0;
             i < history.count(); ++i) {
            const GapRecord& gap = history.records()[i % gap_history];
            nb::dict entry;
            entry["opened_ns"] = gap.opened_ns;
            entry["closed_ns"] = gap.closed_ns;
            entry["first"] = gap.first;
            entry["last"] = gap.last;
            entry["recovered_line"] = gap.recovered_line;
            entry["recovered_rewind"] = gap.recovered_rewind;
            entry["unrecovered"] = gap.unrecovered;
            entry["requests"] = gap.requests;
            out.append(entry);
        }
        return out;
    }

  private:
    static const std::uint8_t* data(const nb::bytes& bytes) {
        return reinterpret_cast<const std::uint8_t*>(bytes.c_str());
    }
    nb::list take() { return sink_.trace.take(); }

    sequence::Settings settings_;
    TraceSink sink_;
    Counters counters_;
    sequence::Arbiter<TraceSink> arbiter_;
};

}  // namespace

void register_sequence(nb::module_& m) {
    using namespace nb::literals;
    const sequence::Settings defaults;
    nb::class_<TracedArbiter>(m, "Arbiter",
                              "The sequencing stage alone; each call returns its trace as a list of tuples.")
        .def(
            "__init__",
            [](TracedArbiter* self, std::size_t lines, std::size_t servers, const std::string& session,
               const std::string& start, std::uint64_t first_sequence, std::int64_t line_down_ns,
               std::int64_t arbitration_ns, std::int64_t timeout_ns, std::uint64_t retries,
               std::size_t max_outstanding, std::uint64_t requests_per_s, std::size_t hold_messages,
               std::size_t hold_bytes, std::uint64_t max_gap_messages, bool with_timestamps, bool snapshot,
               std::uint64_t first_to_apply_offset, bool restart, bool with_recovery,
               std::size_t slice_messages, unsigned splice_slices) {
                if (lines > max_lines || servers > max_servers ||
                    session.size() > frame::mold_session_bytes || (start != "live" && start != "beginning")) {
                    throw nb::value_error("Arbiter: lines, servers, session or start out of range");
                }
                sequence::Settings settings;
                settings.lines = lines;
                settings.servers = servers;
                settings.session = session;
                settings.start = start == "live" ? sequence::Start::live : sequence::Start::beginning;
                settings.first_sequence = first_sequence;
                settings.line_down_ns = line_down_ns;
                settings.arbitration_ns = arbitration_ns;
                settings.timeout_ns = timeout_ns;
                settings.retries = retries;
                settings.max_outstanding = max_outstanding;
                settings.requests_per_s = requests_per_s;
                settings.hold_messages = hold_messages;
                settings.hold_bytes = hold_bytes;
                settings.max_gap_messages = max_gap_messages;
                settings.snapshot = snapshot;
                settings.first_to_apply_offset = first_to_apply_offset;
                settings.restart = restart;
                settings.slice_messages = slice_messages;
                new (self) TracedArbiter(settings, with_timestamps, with_recovery, splice_slices);
            },
            nb::kw_only(), "lines"_a = defaults.lines, "servers"_a = defaults.servers,
            "session"_a = defaults.session, "start"_a = "live", "first_sequence"_a = defaults.first_sequence,
            "line_down_ns"_a = defaults.line_down_ns, "arbitration_ns"_a = defaults.arbitration_ns,
            "timeout_ns"_a = defaults.timeout_ns, "retries"_a = defaults.retries,
            "max_outstanding"_a = defaults.max_outstanding, "requests_per_s"_a = defaults.requests_per_s,
            "hold_messages"_a = defaults.hold_messages, "hold_bytes"_a = defaults.hold_bytes,
            "max_gap_messages"_a = defaults.max_gap_messages, "with_timestamps"_a = false,
            "snapshot"_a = false, "first_to_apply_offset"_a = 0, "restart"_a = false,
            "with_recovery"_a = false, "slice_messages"_a = defaults.slice_messages, "splice_slices"_a = 1)
        .def("look_ahead", &TracedArbiter::look_ahead, "payloads"_a,
             "Of packets to come: how many of them are announced together, and the messages announced.")
        .def("on_packet", &TracedArbiter::on_packet, "line"_a, "payload"_a, "now_ns"_a, "ts_recv_ns"_a = 0)
        .def("on_reply", &TracedArbiter::on_reply, "server"_a, "payload"_a, "now_ns"_a, "ts_recv_ns"_a = 0)
        .def("on_refused", &TracedArbiter::on_refused, "server"_a, "now_ns"_a)
        .def("on_timer", &TracedArbiter::on_timer, "now_ns"_a)
        .def("on_snapshot", &TracedArbiter::on_snapshot, "number"_a, "now_ns"_a)
        .def("on_image", &TracedArbiter::on_image, "first_to_apply"_a, "now_ns"_a)
        .def("on_snapshot_failed", &TracedArbiter::on_snapshot_failed, "now_ns"_a)
        .def("let_session_go", &TracedArbiter::let_session_go)
        .def("counters", &TracedArbiter::counters)
        .def("history", &TracedArbiter::history)
        .def_prop_ro("next_deadline", &TracedArbiter::next_deadline)
        .def_prop_ro("state", &TracedArbiter::state)
        .def("take_event_states", &TracedArbiter::take_event_states,
             "The state that each event told, since the last call.")
        .def_prop_ro("session", &TracedArbiter::session)
        .def_prop_ro("held", &TracedArbiter::held)
        .def_prop_ro("next_sequence", &TracedArbiter::next_sequence);

    using sequence::Escalation;
    nb::class_<Escalation>(m, "Escalation", "What is decided about snapshots, alone.")
        .def(nb::init<>())
        .def(
            "hopeless",
            [](Escalation& self, std::int64_t now_ns, std::uint64_t missing, std::uint64_t recovered,
               std::uint64_t end, std::uint64_t waiting, std::uint64_t capacity) {
                return self.hopeless(now_ns, {missing, recovered, end, waiting, capacity});
            },
            "now_ns"_a, "missing"_a, "recovered"_a, "end"_a, "waiting"_a, "capacity"_a,
            "Can re-requests never catch up, at the pace of the last samples?");
}

}  // namespace fh::bind
