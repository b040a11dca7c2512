// Takes from every thread of the process the capabilities that only its set-up needed.
#pragma once

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace fh::receive {

// Bit n is capability n of linux/capability.h.
using CapabilityMask = std::uint64_t;

namespace capabilities {

// Of this thread; what it has not is not given. Safe in a signal handler.
inline bool limit_thread(CapabilityMask kept) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> sets{};
    if (syscall(SYS_capget, &header, sets.data()) != 0) return false;
    for (std::size_t i = 0; i < sets.size(); ++i) {
        const auto word = static_cast<std::uint32_t>(kept >> (32 * i));
        sets[i].permitted &= word;
        sets[i].effective &= word;
        sets[i].inheritable &= word;
    }
    return syscall(SYS_capset, &header, sets.data()) == 0;
}

inline std::atomic<CapabilityMask> kept_of_all{~CapabilityMask{0}};

inline void on_signal(int) {
    const int error = errno;
    limit_thread(kept_of_all.load());
    errno = error;
}

// 0 when the thread has ended.
inline CapabilityMask permitted(const std::string& thread) {
    const std::string path = "/proc/self/task/" + thread + "/status";
    const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
    std::array<char, 256> line;
    CapabilityMask mask = 0;
    while (file && std::fgets(line.data(), line.size(), file.get()) != nullptr) {
        if (std::string(line.data()).starts_with("CapPrm:")) mask = std::strtoull(&line[7], nullptr, 16);
    }
    return mask;
}

inline std::vector<pid_t> threads_beyond(CapabilityMask kept) {
    std::vector<pid_t> out;
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
        const std::string name = thread.path().filename();
        if ((permitted(name) & ~kept) != 0) out.push_back(static_cast<pid_t>(std::stol(name)));
    }
    return out;
}

}  // namespace capabilities

// Capabilities belong to threads, and none can change those of another: each is told by a signal to do it
// itself. Returns when no thread has more than `kept`; throws when that cannot be had.
inline void limit_capabilities(CapabilityMask kept) {
    using Clock = std::chrono::steady_clock;
    if (capabilities::threads_beyond(kept).empty()) return;
    if (!capabilities::limit_thread(kept)) throw std::system_error(errno, std::generic_category(), "capset");
    capabilities::kept_of_all.store(kept);
    const int signal = SIGRTMIN + 1;
    struct sigaction action {};
    action.sa_handler = &capabilities::on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(signal, &action, nullptr);  // for good: one may still be under way to a thread
    const auto deadline = Clock::now() + std::chrono::seconds(2);
    for (;;) {
        const std::vector<pid_t> others = capabilities::threads_beyond(kept);
        if (others.empty()) return;
        if (Clock::now() > deadline)
            throw std::runtime_error("thread " + std::to_string(others[0]) + " does not react");
        for (const pid_t thread : others) syscall(SYS_tgkill, getpid(), thread, signal);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

}  // namespace fh::receive
