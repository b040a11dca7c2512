// The latency page under ThreadSanitizer: one thread samples, one reads the histograms, one is a consumer.
// Exit status 0 when no copy of the hops was torn and the consumer met or missed every sample.
#include <atomic>
#include <cstdio>
#include <memory>
#include <thread>

#include "latency/consumer_meter.hpp"
#include "latency/meter.hpp"
#include "latency/tick_clock.hpp"
#include "publish/channel_reader.hpp"
#include "publish/channel_writer.hpp"

namespace {

using namespace fh;

constexpr std::uint64_t samples = 30'000;
std::atomic<std::uint64_t> written{0};  // what a ring's tail is to its readers
std::atomic<int> failures{0};
std::atomic<int> ready{0};

// Each stamp is two ticks after the one before: all hops of a whole copy agree.
struct EvenClock {
    mutable std::uint64_t now = 0;
    std::uint64_t ticks() const { return now += 2; }
    std::int64_t utc_ns() const { return 2; }
    std::uint64_t scale() const { return std::uint64_t{1} << 32; }
};

void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    ++failures;
}

void write_all(latency::LatencyPage& page) {
    latency::Meter<EvenClock> meter(page, 1, EvenClock{});
    const std::uint8_t payload[8] = {};
    for (std::uint64_t n = 1; n <= samples; ++n) {
        meter.dequeued(1);
        meter.next({payload, sizeof payload, 0, TimestampKind::kernel, 0});
        meter.sequenced(n);
        meter.booked();
        written.store(n, std::memory_order_release);
        meter.published(true);
        if (n % 64 == 0) std::this_thread::yield();
    }
}

void read_all(const std::string& directory) {
    const publish::ChannelReader channel(directory);
    const auto hops = std::make_unique<latency::Hops>();
    ++ready;
    std::uint64_t before = 0;
    while (hops->samples < samples) {
        channel.read_latency(*hops);
        check(hops->samples >= before, "counts fall");
        before = hops->samples;
        std::uint64_t sum = 0;
        for (const latency::Histogram& hop : hops->hops) {
            check(hop.count() == hops->samples, "torn: a hop has not been counted for every sample");
            sum += hop.sum_ns;
        }
        check(sum == 20 * hops->samples, "torn: the hops do not add up");
    }
}

void consume_all(const std::string& directory) {
    const publish::ChannelReader channel(directory);
    latency::ConsumerMeter meter(channel.page().latency);
    ++ready;
    for (std::uint64_t next = 1; next <= samples;) {
        const std::uint64_t end = written.load(std::memory_order_acquire);
        for (; next <= end; ++next) meter.on_record(static_cast<std::uint32_t>(next));
        meter.settle();
    }
    const latency::Sample& last = channel.page().latency.samples[samples % latency::sample_slots];
    while (last.published_ticks.load(std::memory_order_acquire) == 0) std::this_thread::yield();
    meter.settle();
    check(meter.consume().count() + meter.missed() == samples, "samples met and missed are not those made");
    check(meter.consume().count() > 0, "the consumer met none");
    std::printf("met %llu\n", static_cast<unsigned long long>(meter.consume().count()));
}

}  // namespace

int main(int, char** argv) {
    publish::ChannelSettings settings;
    settings.directory = argv[1];
    settings.channel = "stress";
    settings.epoch = 1;
    settings.ring_bytes = 1 << 18;
    publish::ChannelWriter channel(settings);
    channel.own(publish::monotonic_now_ns());
    std::thread reader(read_all, settings.directory), consumer(consume_all, settings.directory);
    while (ready != 2) std::this_thread::yield();
    write_all(channel.latency());
    reader.join();
    consumer.join();
    channel.release();
    return failures == 0 ? 0 : 1;
}
