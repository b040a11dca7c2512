// How long the receive thread is kept from its sockets when a snapshot is spliced in. JSON on stdout, one
// object a splice: the longest call, each call's length, and the time until LIVE.
//   splice_bench [--orders N] [--symbols N] [--held N] [--splices N] [--slice N] [--mbo]
// The feed is at `orders` live orders when a packet is lost on all lines; a snapshot of all before the loss
// is loaded while `held` more messages arrive and wait. Timed is every call of the arbiter from the one that
// hands over the snapshot until LIVE, as the receive loop makes them: one packet, then the timer, in turn.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "frame/moldudp64.hpp"
#include "order_flow.hpp"
#include "pipeline.hpp"
#include "publish/ring_writer.hpp"
#include "record/normalizer.hpp"
#include "snapshot/image_reader.hpp"
#include "snapshot/image_writer.hpp"

namespace {

using namespace fh;

constexpr std::uint64_t ring_bytes = 64u << 20;
constexpr const char* session = "SPLICEBNCH";

std::int64_t read_ns(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}
std::int64_t monotonic_ns() { return read_ns(CLOCK_MONOTONIC); }
// Of this thread: what else runs on the machine does not count.
std::int64_t processor_ns() { return read_ns(CLOCK_THREAD_CPUTIME_ID); }

// As the daemon's files: shared memory, resident from the first touch on.
std::byte* shared(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    return static_cast<std::byte*>(memory);
}

struct Host {
    publish::RingWriter& ring;
    std::unique_ptr<snapshot::ImageReader> image{};
    bool wanted = false;

    void on_event(const Event& event) {
        if (event.type == EventType::state) ring.set_state(event.state);
        ring.publish(event, 0);
    }
    void send_request(std::size_t, std::span<const std::uint8_t, 20>) {}
    void start_snapshot(std::int64_t) { wanted = true; }
    book::BookSet& snapshot_books() { return image->books(); }
};

// Messages of the flow, cut into packets, each symbol with a name of its own.
class Packets {
  public:
    explicit Packets(const bench::Flow& flow) : generator_(flow) {}

    // The next packet, of `count` messages.
    std::vector<std::uint8_t> next(std::size_t count) {
        blocks_.clear();
        generator_.append(blocks_, count);
        for (std::size_t at = 0; at < blocks_.size(); at += 2u + blocks_[at + 1]) name(&blocks_[at + 2]);
        std::vector<std::uint8_t> out(frame::mold_header_bytes + blocks_.size());
        frame::encode_mold_header(out.data(), session, sequence_, static_cast<std::uint16_t>(count));
        std::memcpy(&out[frame::mold_header_bytes], blocks_.data(), blocks_.size());
        sequence_ += count;
        return out;
    }
    std::uint64_t sequence() const { return sequence_; }  // of the next message

    template <class Out>
    static void each(const std::vector<std::uint8_t>& packet, Out&& out) {
        for (std::size_t at = frame::mold_header_bytes; at < packet.size(); at += 2u + packet[at + 1])
            out(Message{&packet[at + 2], packet[at + 1]});
    }

  private:
    static void name(std::uint8_t* p) {
        if (p[0] != 'A') return;
        char text[9];
        std::snprintf(text, sizeof text, "S%05d  ", p[1] << 8 | p[2]);
        std::memcpy(p + 24, text, 8);
    }
    bench::Generator generator_;
    std::vector<std::uint8_t> blocks_;
    std::uint64_t sequence_ = 1;
};

constexpr std::size_t per_packet = 10;

class Bench {
  public:
    Bench(const bench::Flow& flow, std::uint64_t held, std::uint64_t slice, std::uint32_t schema_mask)
        : held_(held),
          packets_(flow),
          ring_(shared(ring_file_size(ring_bytes)), ring_bytes, 1, schema_mask),
          books_file_(shared(book::books_file_size)),
          normalizer_(ring_, books_file_, {}),
          host_{ring_},
          pipeline_(settings(slice), counters_, normalizer_, host_) {
        for (std::uint64_t i = 0; i < flow.orders + flow.orders / 2; i += per_packet) deliver();
    }

    void splice() {
        for (int i = 0; i < 100; ++i) deliver();
        follow(packets_.next(per_packet));  // the exchange knows it; it is lost on every line
        deliver();
        if (!host_.wanted) std::abort();
        load();
        for (std::uint64_t i = 0; i < held_; i += per_packet) deliver();
        calls_.clear();
        const std::int64_t begin_ns = monotonic_ns();
        std::int64_t last_ns = processor_ns();
        arbiter().on_snapshot(image_at_, now());
        stamp(last_ns);
        while (arbiter().state() != FeedState::live) {
            const auto packet = packets_.next(per_packet);
            last_ns = processor_ns();
            take(packet);
            arbiter().on_timer(now());
            stamp(last_ns);
            follow(packet);
        }
        std::printf("{\"pause_ns\": %lld, \"to_live_ns\": %lld, \"calls_ns\": [", longest(),
                    static_cast<long long>(monotonic_ns() - begin_ns));
        for (std::size_t i = 0; i < calls_.size(); ++i)
            std::printf(i == 0 ? "%lld" : ", %lld", static_cast<long long>(calls_[i]));
        std::printf("]}\n");
        std::fflush(stdout);
        host_.wanted = false;
        host_.image.reset();
    }

  private:
    static sequence::Settings settings(std::uint64_t slice) {
        sequence::Settings out;
        out.snapshot = true;
        out.arbitration_ns = 0;
        out.hold_messages = 4'000'000;
        if (slice != 0) out.slice_messages = slice;
        return out;
    }
    using Arbiter = Pipeline<record::Normalizer<publish::RingWriter>, Host>::Arbiter;
    Arbiter& arbiter() { return pipeline_.arbiter(); }
    std::int64_t now() { return ++now_ns_; }

    void take(const std::vector<std::uint8_t>& packet) {
        arbiter().on_packet(0, packet.data(), packet.size(), now_ns_, TimestampKind::user, now());
    }
    void follow(const std::vector<std::uint8_t>& packet) {
        Packets::each(packet, [this](const Message& message) { exchange_.apply(message); });
    }
    void deliver() {
        const auto packet = packets_.next(per_packet);
        follow(packet);
        take(packet);
    }
    // As the loader's thread does it.
    void load() {
        const std::vector<std::uint8_t> image = exchange_.image();
        host_.image = std::make_unique<snapshot::ImageReader>(book::BookLimits{}, 0);
        for (std::size_t at = 0; at < image.size();) {
            const auto length = static_cast<std::uint16_t>(image[at] << 8 | image[at + 1]);
            host_.image->on_message({&image[at + 3], static_cast<std::uint16_t>(length - 1)});
            at += 2u + length;
        }
        image_at_ = host_.image->number();
        if (image_at_ != exchange_.next_sequence()) std::abort();
    }

    void stamp(std::int64_t& last_ns) {
        const std::int64_t time_ns = processor_ns();
        calls_.push_back(time_ns - last_ns);
        last_ns = time_ns;
    }
    long long longest() const {
        long long out = 0;
        for (const std::int64_t ns : calls_) out = std::max<long long>(out, ns);
        return out;
    }

    std::uint64_t held_;
    Packets packets_;
    publish::RingWriter ring_;
    std::byte* books_file_;
    record::Normalizer<publish::RingWriter> normalizer_;
    Host host_;
    Counters counters_;
    Pipeline<record::Normalizer<publish::RingWriter>, Host> pipeline_;
    snapshot::ImageWriter exchange_;
    std::uint64_t image_at_ = 0;
    std::int64_t now_ns_ = 0;
    std::vector<std::int64_t> calls_;
};

}  // namespace

int main(int argc, char** argv) {
    bench::Flow flow;
    flow.orders = 400'000;
    flow.symbols = 8'000;
    std::uint64_t held = 300'000, splices = 10, slice = 0;
    std::uint32_t schemas = dbn::schema_bit(dbn::Schema::mbp_1) | dbn::schema_bit(dbn::Schema::trades);
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        std::uint64_t* value = option == "--orders"    ? &flow.orders
                               : option == "--symbols" ? &flow.symbols
                               : option == "--held"    ? &held
                               : option == "--splices" ? &splices
                               : option == "--slice"   ? &slice
                                                       : nullptr;
        if (value != nullptr && i + 1 < argc) {
            *value = std::stoull(argv[++i]);
        } else if (option == "--mbo") {
            schemas |= dbn::schema_bit(dbn::Schema::mbo);
        } else {
            std::fprintf(stderr,
                         "usage: splice_bench [--orders N] [--symbols N] [--held N] [--splices N] [--slice "
                         "N] [--mbo]\n");
            return 2;
        }
    }
    Bench bench(flow, held, slice, schemas);
    for (std::uint64_t i = 0; i < splices; ++i) bench.splice();
}
