// What settings of a host are worth, one at a time; each prints one line of JSON.
//   host_bench stolen SECONDS                    time that others took from a thread that never waits
//   host_bench touch small|huge|shared MIB       nanoseconds for each 4 KiB of memory written for the first
//   time host_bench send GROUP PORT INTERFACE COUNT PACKETS_PER_S       0: as fast as it goes host_bench
//   receive GROUP PORT INTERFACE COUNT spin|block BUFFER_BYTES STALL_MS
//       says "ready", reads COUNT packets or until nothing comes; BUFFER_BYTES 0: what the daemon takes;
//       STALL_MS: sleeps so long after the first packet
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "book/memory.hpp"
#include "receive/clock.hpp"
#include "receive/multicast.hpp"

namespace {

using namespace fh;

std::int64_t now_ns() { return receive::read_clock(CLOCK_MONOTONIC); }

int stolen(double seconds) {
    constexpr std::int64_t gap_ns = 5'000;  // longer than any turn of this loop by itself
    const std::int64_t start = now_ns();
    const std::int64_t end = start + static_cast<std::int64_t>(seconds * 1e9);
    std::int64_t last = start, sum = 0, longest = 0, gaps = 0;
    while (last < end) {
        const std::int64_t now = now_ns();
        if (now - last > gap_ns) {
            sum += now - last;
            longest = std::max(longest, now - last);
            ++gaps;
        }
        last = now;
    }
    std::printf("{\"stolen_share\": %.6f, \"longest_us\": %.1f, \"gaps_per_s\": %.1f}\n",
                static_cast<double>(sum) / static_cast<double>(last - start),
                static_cast<double>(longest) / 1e3, static_cast<double>(gaps) / seconds);
    return 0;
}

int touch(const std::string& kind, std::size_t mib) {
    const std::size_t bytes = mib << 20;
    const bool shared = kind == "shared" || kind == "populated";
    const std::size_t page = kind == "huge" ? std::size_t{2} << 20 : 4096;
    book::Reserved<char> own(shared ? 1 : bytes, kind == "huge" ? book::Pages::huge : book::Pages::small);
    char* memory = own.data();
    if (shared) {
        const int fd = ::memfd_create("touch", 0);
        if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) return 1;
        memory = static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        if (memory == MAP_FAILED || (kind == "populated" && !populate(memory, bytes))) return 1;
    }
    std::vector<std::int64_t> spent;
    spent.reserve(bytes / page);
    for (std::size_t i = 0; i < bytes; i += page) {
        const std::int64_t before = now_ns();
        *static_cast<volatile char*>(memory + i) = 1;
        spent.push_back(now_ns() - before);
    }
    std::ranges::sort(spent);
    std::printf("{\"median_ns\": %lld, \"page_bytes\": %zu}\n",
                static_cast<long long>(spent[spent.size() / 2]), page);
    return 0;
}

int send(const receive::LineSettings& line, std::uint64_t count, std::uint64_t rate) {
    const receive::Descriptor fd(socket(AF_INET, SOCK_DGRAM, 0));
    const unsigned index = if_nametoindex(line.interface.c_str());
    const ip_mreqn out{{}, {}, static_cast<int>(index)};
    setsockopt(fd.get(), IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out));
    const sockaddr_in to{AF_INET, htons(line.port), receive::parse_address(line.group), {}};
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) return 1;
    std::array<char, 100> payload{};
    const std::int64_t start = now_ns();
    for (std::uint64_t i = 0; i < count; ++i) {
        if (rate != 0)
            while (now_ns() < start + static_cast<std::int64_t>(i * 1'000'000'000 / rate)) {
            }
        const std::int64_t sent = now_ns();
        std::memcpy(payload.data(), &sent, sizeof(sent));
        if (::send(fd.get(), payload.data(), payload.size(), 0) < 0) return 1;
    }
    return 0;
}

int receive_packets(const receive::LineSettings& line, std::uint64_t count, bool spin, int buffer_bytes,
                    int stall_ms) {
    receive::UdpReceiver receiver = receive::open_line(line, 0, spin);
    if (buffer_bytes != 0) setsockopt(receiver.fd(), SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof(int));
    std::vector<std::int64_t> delays;
    delays.reserve(count);
    std::array<Datagram, receive::UdpReceiver::batch> batch;
    std::puts("ready");
    std::fflush(stdout);
    std::int64_t last = now_ns() + 9'000'000'000;  // the sender takes a moment to start
    while (delays.size() < count && now_ns() < last + 1'000'000'000) {
        const std::size_t got = receiver.receive(batch);
        const std::int64_t now = now_ns();
        for (std::size_t i = 0; i < got; ++i) {
            std::int64_t sent;
            std::memcpy(&sent, batch[i].data, sizeof(sent));
            delays.push_back(now - sent);
        }
        if (got != 0) {
            if (delays.size() == got && stall_ms != 0)
                std::this_thread::sleep_for(std::chrono::milliseconds(stall_ms));
            last = now_ns();
        } else if (!spin) {
            pollfd wait{receiver.fd(), POLLIN, 0};
            ::poll(&wait, 1, 100);
        }
    }
    receiver.refresh_stats();
    if (delays.empty()) return 1;
    std::ranges::sort(delays);
    const auto us = [&](double share) {
        const auto at = static_cast<std::size_t>(share * static_cast<double>(delays.size() - 1));
        return static_cast<double>(delays[at]) / 1e3;
    };
    std::printf(
        "{\"received\": %zu, \"lost_share\": %.6f, \"least_us\": %.2f, \"median_us\": %.2f, \"p99_us\": "
        "%.2f, \"napi_id\": %u, \"buffer_bytes\": %llu}\n",
        delays.size(), 1 - static_cast<double>(delays.size()) / static_cast<double>(count), us(0), us(0.5),
        us(0.99), receiver.stats().napi_id, static_cast<unsigned long long>(receiver.stats().buffer_bytes));
    return 0;
}

}  // namespace

int main(int count, char** words) {
    const std::vector<std::string> w(words + 1, words + count);
    if (w.size() == 2 && w[0] == "stolen") return stolen(std::stod(w[1]));
    if (w.size() == 3 && w[0] == "touch") return touch(w[1], std::stoul(w[2]));
    if (w.size() < 6) return 2;
    const receive::LineSettings line{"A", w[1], static_cast<std::uint16_t>(std::stoul(w[2])), w[3], ""};
    if (w[0] == "send") return send(line, std::stoull(w[4]), std::stoull(w[5]));
    if (w[0] == "receive" && w.size() == 8)
        return receive_packets(line, std::stoull(w[4]), w[5] == "spin", std::stoi(w[6]), std::stoi(w[7]));
    return 2;
}
