// Histograms of latencies for Python, and a meter whose clock is an argument, for tests.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "bind/latency_dict.hpp"
#include "bind/register.hpp"
#include "latency/consumer_meter.hpp"
#include "latency/histogram.hpp"
#include "latency/hops.hpp"
#include "latency/meter.hpp"
#include "latency/tick_clock.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {
namespace {

using latency::Histogram;

// What a test lets it be.
struct GivenClock {
    std::uint64_t now_ticks = 0;
    std::int64_t now_utc_ns = 0;
    std::uint64_t ns_per_tick = 1;
    std::uint64_t ticks() const { return now_ticks; }
    std::int64_t utc_ns() const { return now_utc_ns; }
    std::uint64_t scale() const { return ns_per_tick << 32; }
};

class GivenMeter {
  public:
    GivenMeter(std::uint32_t sample_every, std::uint64_t ns_per_tick)
        : page_(std::make_unique<latency::LatencyPage>()),
          meter_(*page_, sample_every, GivenClock{0, 0, ns_per_tick}) {}

    void at(std::uint64_t ticks, std::int64_t utc_ns) {
        meter_.clock().now_ticks = ticks;
        meter_.clock().now_utc_ns = utc_ns;
    }
    void dequeued(std::size_t datagrams) { meter_.dequeued(datagrams); }
    void next(std::int64_t ts_recv_ns, unsigned kind) {
        meter_.next({datagram_, sizeof datagram_, 0, static_cast<TimestampKind>(kind & 7), ts_recv_ns});
    }
    bool follows(bool own) const { return meter_.following() && meter_.owns(own ? datagram_ : &elsewhere_); }
    void sequenced(std::uint64_t last_sequence) { meter_.sequenced(last_sequence); }
    void booked() { meter_.booked(); }
    void published(bool recorded) { meter_.published(recorded); }

    const latency::Hops& hops() const { return page_->hops; }
    const latency::LatencyPage& page() const { return *page_; }

  private:
    std::unique_ptr<latency::LatencyPage> page_;
    std::uint8_t datagram_[64] = {};
    std::uint8_t elsewhere_ = 0;
    latency::Meter<GivenClock> meter_;
};

}  // namespace

nb::dict hops_dict(const latency::Hops& hops) {
    nb::dict histograms;
    for (std::size_t i = 0; i < latency::hop_count; ++i)
        histograms[latency::hop_info[i].name] = Histogram(hops.hops[i]);
    nb::dict kinds;
    constexpr const char* names[] = {"none", "user", "kernel", "hardware"};
    for (std::size_t i = 0; i < hops.kinds.size(); ++i) kinds[names[i]] = hops.kinds[i];
    nb::dict out;
    out["samples"] = hops.samples;
    out["backwards"] = hops.backwards;
    out["kinds"] = kinds;
    out["hops"] = histograms;
    return out;
}

void register_latency(nb::module_& m) {
    nb::class_<Histogram>(m, "Histogram", "Counts of nanoseconds in buckets of at most 1/32 of their value.")
        .def(nb::init<>())
        .def("add", &Histogram::add, "ns"_a)
        .def("quantile", &Histogram::quantile, "share"_a,
             "ns that this share (0 to 1) did not exceed: up to 1/32 too high; 0 when empty.")
        .def("at_most", &Histogram::at_most, "ns"_a, "How many certainly took no longer.")
        .def("merge", &Histogram::merge, "other"_a)
        .def("since", &Histogram::since, "before"_a, "What was added since; its worst by its bucket only.")
        .def_prop_ro("count", &Histogram::count)
        .def_ro("sum_ns", &Histogram::sum_ns)
        .def_ro("worst_ns", &Histogram::worst_ns)
        .def(
            "buckets",
            [](const Histogram& histogram) {
                std::vector<std::pair<std::uint64_t, std::uint64_t>> out;
                for (std::size_t i = 0; i < Histogram::bucket_count; ++i)
                    if (histogram.counts[i] != 0) out.emplace_back(Histogram::lowest(i), histogram.counts[i]);
                return out;
            },
            "[(least ns of a bucket, count)] of those that are not empty.");

    nb::dict info;
    for (const auto& hop : latency::hop_info) info[hop.name] = nb::make_tuple(hop.text, hop.budget_ns);
    m.attr("latency_hops") = info;

    nb::class_<GivenMeter>(m, "LatencyMeter", "What follows a packet through the receive thread, for tests.")
        .def(nb::init<std::uint32_t, std::uint64_t>(), "sample_every"_a, "ns_per_tick"_a = 1)
        .def("at", &GivenMeter::at, "ticks"_a, "utc_ns"_a = 0, "Set the clock.")
        .def("dequeued", &GivenMeter::dequeued, "datagrams"_a)
        .def("next", &GivenMeter::next, "ts_recv_ns"_a = 0, "kind"_a = 2, "The turn of a datagram.")
        .def("follows", &GivenMeter::follows, "own"_a, "Of a message in the datagram, or elsewhere.")
        .def("sequenced", &GivenMeter::sequenced, "last_sequence"_a)
        .def("booked", &GivenMeter::booked)
        .def("published", &GivenMeter::published, "recorded"_a)
        .def("read", [](const GivenMeter& meter) { return hops_dict(meter.hops()); });

    // A consumer of that meter's samples, on the machine's own clock.
    nb::class_<latency::ConsumerMeter>(m, "ConsumerMeter")
        .def(
            "__init__",
            [](latency::ConsumerMeter* self, const GivenMeter& meter) {
                new (self) latency::ConsumerMeter(meter.page());
            },
            "meter"_a, nb::keep_alive<1, 2>())
        .def("on_record", &latency::ConsumerMeter::on_record, "sequence_low"_a)
        .def("settle", &latency::ConsumerMeter::settle)
        .def_prop_ro("consume", [](const latency::ConsumerMeter& self) { return Histogram(self.consume()); })
        .def_prop_ro("whole", [](const latency::ConsumerMeter& self) { return Histogram(self.whole()); })
        .def_prop_ro("missed", &latency::ConsumerMeter::missed);

    nb::class_<latency::TickClock>(m, "TickClock", "The clock that the receive thread stamps with.")
        .def(
            "__init__",
            [](latency::TickClock* self, bool monotonic) {
                new (self) latency::TickClock(monotonic ? latency::TickSource::monotonic
                                                        : latency::best_tick_source());
            },
            "monotonic"_a = false, "`monotonic`: as where there is no time stamp counter to trust.")
        .def("ticks", &latency::TickClock::ticks)
        .def(
            "ns",
            [](const latency::TickClock& self, std::uint64_t ticks) {
                return latency::to_ns(ticks, self.scale());
            },
            "ticks"_a)
        .def("recheck", &latency::TickClock::recheck)
        .def_prop_ro("stamp_ns", &latency::TickClock::stamp_ns)
        .def_prop_ro("recalibrated", &latency::TickClock::recalibrated);

    nb::class_<latency::Calibration>(m, "TickCalibration", "Length of a tick from (ticks, ns) readings.")
        .def(
            "__init__",
            [](latency::Calibration* self, std::pair<std::uint64_t, std::uint64_t> first,
               std::pair<std::uint64_t, std::uint64_t> second) {
                new (self) latency::Calibration({first.first, first.second}, {second.first, second.second});
            },
            "first"_a, "second"_a)
        .def(
            "observe",
            [](latency::Calibration& self, std::uint64_t ticks, std::uint64_t ns) {
                self.observe({ticks, ns});
            },
            "ticks"_a, "ns"_a)
        .def(
            "ns",
            [](const latency::Calibration& self, std::uint64_t ticks) {
                return latency::to_ns(ticks, self.scale());
            },
            "ticks"_a)
        .def_prop_ro("restarts", &latency::Calibration::restarts);
}

}  // namespace fh::bind
