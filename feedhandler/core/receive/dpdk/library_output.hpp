// What DPDK and its drivers print: kept as text, off the terminal.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace fh::dpdk_plugin {

// What DPDK says goes here instead of to the terminal; bounded, for a driver may say something per packet.
class Log {
  public:
    static constexpr std::size_t most_bytes = 64 << 10;

    void add(std::string_view text) {
        const std::lock_guard lock(mutex_);
        text_.append(text.substr(0, most_bytes - std::min(most_bytes, text_.size())));
    }
    std::string take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(text_, {});
    }

  private:
    std::mutex mutex_;
    std::string text_;
};

inline Log& log_of_process() {
    static Log made;
    return made;
}

inline ssize_t write_log(void* /*cookie*/, const char* text, std::size_t size) {
    log_of_process().add({text, size});
    return static_cast<ssize_t>(size);
}

// EAL prints its usage to the standard output, libbpf its complaints to the standard error: for as long as
// this lives, both go to the log. Other threads should say nothing meanwhile: there are none at a start.
class QuietTerminal {
  public:
    QuietTerminal() : file_(memfd_create("dpdk-output", MFD_CLOEXEC)) {
        std::fflush(nullptr);
        for (int fd : {1, 2}) {
            saved_.at(static_cast<std::size_t>(fd - 1)) = dup(fd);
            if (file_ >= 0) dup2(file_, fd);
        }
    }
    QuietTerminal(const QuietTerminal&) = delete;
    QuietTerminal& operator=(const QuietTerminal&) = delete;
    ~QuietTerminal() {
        std::fflush(nullptr);
        for (int fd : {1, 2}) {
            int& saved = saved_.at(static_cast<std::size_t>(fd - 1));
            if (saved < 0) {
                ::close(fd);  // it was closed
            } else {
                dup2(saved, fd);
                ::close(saved);
            }
        }
        if (file_ < 0) return;
        std::string text(static_cast<std::size_t>(lseek(file_, 0, SEEK_END)), '\0');
        if (pread(file_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()))
            log_of_process().add(text);
        ::close(file_);
    }

  private:
    int file_;
    std::array<int, 2> saved_{};
};

// The line by which a driver or the EAL said why, if any: what is printed last is often a consequence.
inline std::string reason_in(const std::string& text) {
    std::string found;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string line = text.substr(at, end - at);
        at = end + 1;
        for (const char* word : {"annot", "rror", "ailed", "nvalid", "ould not", "nable", "not support"})
            if (found.empty() && line.find(word) != std::string::npos) found = line;
    }
    return found;
}

}  // namespace fh::dpdk_plugin
