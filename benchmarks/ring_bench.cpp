// One end of the ring, in a process of its own.
//   ring_bench write FOLDER RECORDS RATE PER_COMMIT RING_MIB   MBO records; RATE per second, 0: as fast as it
//   goes ring_bench read FOLDER                                      checks every record and counts
// Each prints "up" when it is ready; the writer starts at a line on stdin and ends at the next. JSON on
// stdout.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "publish/channel_writer.hpp"
#include "publish/consumer.hpp"

namespace {

using namespace fh;

struct Arguments {
    std::string folder;
    std::uint64_t records, rate, per_commit, ring_mib;
};

std::int64_t write_records(publish::ChannelWriter& channel, const Arguments& in) {
    const std::int64_t start = publish::monotonic_now_ns();
    for (std::uint64_t n = 0; n < in.records; ++n) {
        auto& record =
            *static_cast<dbn::Mbo*>(channel.ring().claim(dbn::Schema::mbo, static_cast<std::uint32_t>(n)));
        record.hd = {14, dbn::RType::mbo, 2, static_cast<std::uint32_t>(n & 8191), n};
        record.order_id = n;
        record.price = static_cast<std::int64_t>(n);
        record.size = static_cast<std::uint32_t>(n);
        record.flags = dbn::f_last;
        record.channel_id = 0;
        record.action = 'A';
        record.side = 'B';
        record.ts_recv = n;
        record.ts_in_delta = 0;
        record.sequence = static_cast<std::uint32_t>(n);
        if ((n + 1) % in.per_commit == 0) channel.ring().commit();
        if (in.rate == 0 || n % 256 != 0) continue;
        const auto due = start + static_cast<std::int64_t>(n * 1'000'000'000 / in.rate);
        while (publish::monotonic_now_ns() < due) __builtin_ia32_pause();
    }
    channel.ring().commit();
    return publish::monotonic_now_ns() - start;
}

int write(const Arguments& in) {
    publish::ChannelSettings settings;
    settings.directory = in.folder;
    settings.channel = "bench";
    settings.epoch = static_cast<std::uint64_t>(publish::monotonic_now_ns());
    settings.schema_mask = 0x7f;
    settings.ring_bytes = in.ring_mib << 20;
    publish::ChannelWriter channel(settings);
    channel.own(publish::monotonic_now_ns());
    std::puts("up");
    std::fflush(stdout);
    std::getchar();
    const std::int64_t elapsed = write_records(channel, in);
    channel.publish({0, 0, 0, EventType::state, FeedState::ended, FeedState::live, 255, {}, {}}, 0);
    std::printf("{\"written\": %llu, \"elapsed_ns\": %lld}\n", static_cast<unsigned long long>(in.records),
                static_cast<long long>(elapsed));
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
    channel.release();
    return 0;
}

int read(const std::string& folder) {
    publish::Consumer consumer(folder,
                               dbn::schema_bit(dbn::Schema::mbo) | dbn::schema_bit(dbn::Schema::event));
    std::puts("up");
    std::fflush(stdout);
    std::uint64_t read = 0, garbage = 0;
    std::int64_t first_ns = 0, cpu_start_ns = 0;
    for (bool ended = false; !ended;) {
        if (!consumer.wait(1'000'000'000)) continue;
        if (first_ns == 0) {
            first_ns = publish::monotonic_now_ns();
            timespec cpu{};
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
            cpu_start_ns = cpu.tv_sec * 1'000'000'000 + cpu.tv_nsec;
        }
        consumer.poll([&](const RecordHeader& header, const std::byte* body) {
            if (header.schema != 0) {
                ended = true;
                return;
            }
            dbn::Mbo record;
            std::memcpy(&record, body, sizeof record);
            garbage += record.order_id != record.hd.ts_event || record.ts_recv != record.order_id ||
                       record.sequence != header.sequence;
            ++read;
        });
    }
    timespec cpu{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    std::printf(
        "{\"read\": %llu, \"lost\": %llu, \"garbage\": %llu, \"elapsed_ns\": %lld, \"cpu_ns\": %lld}\n",
        static_cast<unsigned long long>(read), static_cast<unsigned long long>(consumer.lost()),
        static_cast<unsigned long long>(garbage),
        static_cast<long long>(publish::monotonic_now_ns() - first_ns),
        static_cast<long long>(cpu.tv_sec * 1'000'000'000 + cpu.tv_nsec - cpu_start_ns));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
    if (argc == 7 && std::string(argv[1]) == "write")
        return write({argv[2], number(3), number(4), number(5), number(6)});
    if (argc == 3 && std::string(argv[1]) == "read") return read(argv[2]);
    return 2;
}
