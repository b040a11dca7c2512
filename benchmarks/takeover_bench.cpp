// What the consumer of a hot pair adds to a take-over: two writers and a consumer, each a process of its own;
// no daemon, no network, no Python.
//   takeover_bench FOLDER FAULT OTHER TIMES
// A trial: writers A and B publish the same message at the same time, 4,000 a second, A LIVE, B LIVE or
// (OTHER stale) STALE: then its records lie and wait for those of A. After 30 ms A is killed, stopped, or
// says STALE (FAULT kill, stop, stale, none). Prints a line a trial: the longest time in ns from publishing,
// by whoever is first of those who may be believed, to delivery, of the messages from 2 ms before to 50 ms
// after the fault; OTHER stale: the time from the fault to the first record of B. -1: a message was lost or
// came twice.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "publish/channel_writer.hpp"
#include "publish/pair_consumer.hpp"

namespace {

using namespace fh;

constexpr std::int64_t interval_ns = 250'000;
constexpr std::int64_t before_ns = 2'000'000;
constexpr std::int64_t after_ns = 50'000'000;

std::int64_t utc_now_ns() {
    timespec time{};
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

// What the parent tells a writer, and where both writers say when they published what.
struct Shared {
    static constexpr std::size_t numbers = 4096;
    std::atomic<bool> stale[2];
    std::atomic<bool> up[2];
    std::atomic<std::int64_t> start_ns;
    std::atomic<std::int64_t> published_ns[2][numbers];
};

[[noreturn]] void write(const std::string& folder, int who, Shared& shared) {
    publish::ChannelSettings settings;
    settings.directory = folder + (who == 0 ? "/a" : "/b");
    settings.channel = "trial";
    settings.epoch = static_cast<std::uint64_t>(utc_now_ns());
    settings.schema_mask = 1;
    settings.ring_bytes = 1 << 20;
    publish::ChannelWriter channel(settings);
    channel.own(publish::monotonic_now_ns());
    channel.set_state(FeedState::live);
    channel.set_next_sequence(1);
    shared.up[who] = true;
    while (shared.start_ns == 0) {
        channel.heartbeat(publish::monotonic_now_ns());
        publish::Consumer::sleep_for(200'000);
    }
    for (std::uint32_t n = 1; n < Shared::numbers; ++n) {
        const std::int64_t due = shared.start_ns + n * interval_ns;
        const timespec time{due / 1'000'000'000, due % 1'000'000'000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
        if (shared.stale[who]) channel.set_state(FeedState::stale);
        auto& record = *static_cast<dbn::Mbo*>(channel.ring().claim(dbn::Schema::mbo, n));
        record = {};
        record.sequence = n;
        record.channel_id = static_cast<std::uint8_t>(who);
        const std::int64_t now = publish::monotonic_now_ns();
        channel.ring().commit();
        shared.published_ns[who][n] = now;
        channel.set_next_sequence(n + 1);
        channel.heartbeat(now);
    }
    _exit(0);
}

struct Trial {
    std::string fault;
    bool other_stale;
};

std::int64_t one(const std::string& folder, const Trial& trial, Shared& shared) {
    new (&shared) Shared{};
    std::filesystem::remove_all(folder);
    pid_t writers[2];
    for (int who = 0; who < 2; ++who) {
        writers[who] = fork();
        if (writers[who] == 0) write(folder, who, shared);
    }
    while (!shared.up[0] || !shared.up[1]) usleep(200);
    shared.stale[1] = trial.other_stale;
    publish::PairConsumer consumer({folder + "/a", folder + "/b"}, dbn::schema_bit(dbn::Schema::mbo));
    shared.start_ns = publish::monotonic_now_ns() + 1'000'000;
    const std::int64_t fault_ns = shared.start_ns + 30'000'000;
    std::int64_t fault_at = 0;
    std::vector<std::int64_t> delivered(Shared::numbers);
    std::int64_t first_of_other = 0;
    bool twice = false;
    std::int64_t end_ns = fault_ns + after_ns;
    for (std::int64_t now = 0; now < end_ns;) {  // its last poll is behind the end
        now = publish::monotonic_now_ns();
        if (fault_at == 0 && now >= fault_ns) {
            fault_at = publish::monotonic_now_ns();
            end_ns = fault_at + (trial.other_stale ? 4 * after_ns : after_ns + 20'000'000);
            if (trial.fault == "kill") kill(writers[0], SIGKILL);
            if (trial.fault == "stop") kill(writers[0], SIGSTOP);
            if (trial.fault == "stale") shared.stale[0] = true;
        }
        const std::int64_t left = fault_at == 0 ? fault_ns - now : 5'000'000;
        consumer.wait(std::clamp<std::int64_t>(left, 0, 5'000'000));
        consumer.poll([&](const RecordHeader&, const std::byte* body) {
            dbn::Mbo record;
            std::memcpy(&record, body, sizeof record);
            twice = twice || delivered[record.sequence] != 0;
            delivered[record.sequence] = publish::monotonic_now_ns();
            if (record.channel_id == 1 && fault_at != 0 && first_of_other == 0)
                first_of_other = delivered[record.sequence];
        });
    }
    for (const pid_t writer : writers) {
        kill(writer, SIGKILL);
        waitpid(writer, nullptr, 0);
    }
    if (twice) return -2;
    if (trial.other_stale) return first_of_other == 0 ? -1 : first_of_other - fault_at;
    std::int64_t longest = 0;
    for (std::size_t n = 1; n < delivered.size(); ++n) {
        const std::int64_t a = shared.published_ns[0][n], b = shared.published_ns[1][n];
        if (b == 0 || b < fault_at - before_ns || b > fault_at + after_ns) continue;
        if (delivered[n] == 0) return -1;
        const bool believed = a != 0 && (trial.fault != "stale" || a < fault_at);
        longest = std::max(longest, delivered[n] - (believed ? std::min(a, b) : b));
    }
    return longest;
}

int trials(const std::string& folder, const Trial& trial, std::uint64_t times) {
    void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    auto& shared = *static_cast<Shared*>(memory);
    for (std::uint64_t i = 0; i < times; ++i)
        std::printf("%lld\n", static_cast<long long>(one(folder, trial, shared)));
    std::filesystem::remove_all(folder);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    return trials(argv[1], {argv[2], std::string(argv[3]) == "stale"}, std::strtoull(argv[4], nullptr, 10));
}
