// The pipeline for tests and tools: packets, replies, snapshots and time in by hand; events and books out.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wdangling-pointer"  // g++ 12 sees one in Normalizer::fill, which has none
#endif

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "bind/book_view.hpp"
#include "bind/register.hpp"
#include "bind/settings.hpp"
#include "bind/trace.hpp"
#include "book/memory.hpp"
#include "pipeline.hpp"
#include "record/buffer_publisher.hpp"
#include "record/normalizer.hpp"
#include "snapshot/download.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {
namespace {

// Calls `watch` whenever a reader could see something new.
class WatchedPublisher : public record::BufferPublisher {
  public:
    static constexpr std::uint32_t all_schemas = 0x7F;
    explicit WatchedPublisher(nb::object watch) : BufferPublisher(all_schemas), watch_(std::move(watch)) {}

    void* claim(dbn::Schema schema, std::uint32_t sequence_low) {
        sequence_ = sequence_low;
        return BufferPublisher::claim(schema, sequence_low);
    }
    void commit() { tell(sequence_); }
    void tell(std::uint64_t sequence) noexcept {
        if (watch_.is_none() || failure_) return;
        try {
            watch_(sequence, state_name(state));
        } catch (nb::python_error& error) {  // not through the stages: they expect none
            failure_.emplace(std::move(error));
        }
    }
    void rethrow() {
        if (failure_) throw nb::python_error(*std::exchange(failure_, std::nullopt));
    }

    FeedState state = FeedState::starting;  // as published

  private:
    nb::object watch_;
    std::optional<nb::python_error> failure_;
    std::uint32_t sequence_ = 0;
};

class TracedPipeline {
  public:
    using Normalizer = record::Normalizer<WatchedPublisher>;

    TracedPipeline(const sequence::Settings& settings, nb::object watch)
        : settings_(settings),
          file_(book::books_file_size, book::Pages::small),
          publisher_(std::move(watch)),
          normalizer_(publisher_, file_.data(), {}),
          pipeline_(settings, counters_, normalizer_, *this) {}

    nb::list on_packet(std::size_t line, nb::bytes payload, std::int64_t now_ns) {
        if (line >= settings_.lines) throw nb::index_error("line");
        arbiter().on_packet(line, data(payload), payload.size(), now_ns, TimestampKind::user, now_ns);
        return take();
    }
    nb::list on_reply(std::size_t server, nb::bytes payload, std::int64_t now_ns) {
        if (server >= settings_.servers) throw nb::index_error("server");
        arbiter().on_reply(server, data(payload), payload.size(), now_ns, TimestampKind::user, now_ns);
        return take();
    }
    nb::list on_timer(std::int64_t now_ns) {
        arbiter().on_timer(now_ns);
        return take();
    }
    nb::list on_snapshot(nb::object download, std::int64_t now_ns) {
        auto& books = nb::cast<snapshot::Download&>(download);
        if (!books.done()) throw nb::value_error("download: not done");
        download_ = std::move(download);
        arbiter().on_snapshot(books.number(), now_ns);
        return take();
    }
    nb::list on_snapshot_failed(std::int64_t now_ns) {
        arbiter().on_snapshot_failed(now_ns);
        return take();
    }
    std::int64_t next_deadline() { return arbiter().next_deadline(); }
    std::uint64_t next_sequence() { return arbiter().next_sequence(); }
    nb::bytes session() {
        return nb::bytes(arbiter().session(), strnlen(arbiter().session(), frame::mold_session_bytes));
    }
    const char* state() const { return state_name(publisher_.state); }
    std::optional<nb::dict> view(std::uint32_t instrument) const {
        return book_view(file_.data(), instrument);
    }
    nb::dict take_records() { return bind::take_records(publisher_); }

    // The host of the pipeline.
    void on_event(const Event& event) {
        publisher_.state = event.type == EventType::state ? event.state : publisher_.state;
        trace_.on_event(event);
        const std::uint64_t next = arbiter().next_sequence();
        publisher_.tell(next == 0 ? 0 : next - 1);
    }
    void send_request(std::size_t server, std::span<const std::uint8_t, 20> datagram) {
        trace_.on_request(server, datagram);
    }
    void start_snapshot(std::int64_t /*now_ns*/) { trace_.on_start_snapshot(); }
    book::BookSet& snapshot_books() { return nb::cast<snapshot::Download&>(download_).books(); }

  private:
    nb::list take() {
        publisher_.rethrow();
        return trace_.take();
    }
    Pipeline<Normalizer, TracedPipeline>::Arbiter& arbiter() { return pipeline_.arbiter(); }
    static const std::uint8_t* data(const nb::bytes& bytes) {
        return reinterpret_cast<const std::uint8_t*>(bytes.c_str());
    }

    sequence::Settings settings_;
    book::Reserved<std::byte> file_;
    Trace trace_;
    WatchedPublisher publisher_;
    Counters counters_;
    Normalizer normalizer_;
    nb::object download_;
    Pipeline<Normalizer, TracedPipeline> pipeline_;
};

}  // namespace

void register_pipeline(nb::module_& m) {
    nb::class_<TracedPipeline>(m, "Pipeline",
                               "Sequencing, books and records in one; each call returns its trace as a list "
                               "of tuples, without messages.")
        .def(
            "__init__",
            [](TracedPipeline* self, nb::object watch, const nb::kwargs& settings) {
                new (self) TracedPipeline(settings_of(settings), std::move(watch));
            },
            "watch"_a.none(), "settings"_a,
            nb::sig("def __init__(self, watch: object, **settings: object) -> None"),
            "watch(sequence, state) is called when a reader can see something new: the books as after "
            "message `sequence`, or another state. The rest is that of an Arbiter.")
        .def("on_packet", &TracedPipeline::on_packet, "line"_a, "payload"_a, "now_ns"_a)
        .def("on_reply", &TracedPipeline::on_reply, "server"_a, "payload"_a, "now_ns"_a)
        .def("on_timer", &TracedPipeline::on_timer, "now_ns"_a)
        .def("on_snapshot", &TracedPipeline::on_snapshot, "download"_a, "now_ns"_a,
             "A SnapshotDownload that is done.")
        .def("on_snapshot_failed", &TracedPipeline::on_snapshot_failed, "now_ns"_a)
        .def("view", &TracedPipeline::view, "instrument"_a,
             "The book as a reader of the shared table sees it.")
        .def("take_records", &TracedPipeline::take_records, "Records since the last call: schema to bytes.")
        .def_prop_ro("next_deadline", &TracedPipeline::next_deadline)
        .def_prop_ro("next_sequence", &TracedPipeline::next_sequence)
        .def_prop_ro("session", &TracedPipeline::session)
        .def_prop_ro("state", &TracedPipeline::state);
}

}  // namespace fh::bind
