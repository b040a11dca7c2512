// Reads one UDP socket in batches, without blocking and without allocating.
#pragma once

#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

#include "populate.hpp"
#include "receive/source.hpp"
#include "receive/timestamping.hpp"

namespace fh::receive {

// A descriptor that closes itself.
class Descriptor {
  public:
    explicit Descriptor(int fd = -1) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Descriptor() {
        if (fd_ >= 0) close(fd_);
    }
    int get() const { return fd_; }

  private:
    int fd_;
};

class UdpReceiver {
  public:
    static constexpr std::size_t batch = 32;  // datagrams a call
    // Room for the largest datagram there is. Not a power of two: headers at a 64 KiB stride would share a
    // few cache sets.
    static constexpr std::size_t stride = 65536 + 3 * 64;

    UdpReceiver(Descriptor socket, std::uint16_t line, SourceStats granted)
        : socket_(std::move(socket)), line_(line), stats_(granted), state_(std::make_unique<State>()) {
        void* memory = mmap(nullptr, batch * stride, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "receive buffers");
        populate(memory, batch * stride);
        buffers_.reset(static_cast<std::uint8_t*>(memory));
        for (std::size_t i = 0; i < batch; ++i) {
            state_->vectors[i] = {buffers_.get() + i * stride, stride};
            msghdr& header = state_->headers[i].msg_hdr;
            header = {};
            header.msg_iov = &state_->vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = state_->control[i].data();
        }
    }

    int fd() const { return socket_.get(); }
    const SourceStats& stats() const { return stats_; }

    std::size_t receive(std::span<Datagram> out) {
        const std::size_t wanted = std::min(out.size(), batch);
        for (std::size_t i = 0; i < wanted; ++i) {
            state_->headers[i].msg_hdr.msg_controllen = timestamping_control_bytes;
            state_->headers[i].msg_hdr.msg_namelen = sizeof(sockaddr_in);  // of a name that is asked for
        }
        const int got =
            recvmmsg(fd(), state_->headers.data(), static_cast<unsigned>(wanted), MSG_DONTWAIT, nullptr);
        // Nothing there, or an ICMP error of an earlier send: in both cases there is nothing to read now.
        if (got <= 0) {
            refused_ = refused_ || (got < 0 && errno == ECONNREFUSED);
            return 0;
        }
        std::size_t count = 0;
        for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
            if (only_from_ != 0 && state_->senders[i].sin_addr.s_addr != only_from_) [[unlikely]] {
                ++from_others_;
                continue;
            }
            Datagram& datagram = out[count++];
            datagram = {buffers_.get() + i * stride, state_->headers[i].msg_len, line_, TimestampKind::none,
                        0};
            take_control(state_->headers[i].msg_hdr, datagram);
        }
        return count;
    }

    // For sockets where nobody else sees to the sender of source-specific lines.
    void take_only_from(in_addr sender) {
        only_from_ = sender.s_addr;
        for (std::size_t i = 0; i < batch; ++i) state_->headers[i].msg_hdr.msg_name = &state_->senders[i];
    }
    in_addr_t only_from() const { return only_from_; }  // network order; 0 = anybody
    std::uint64_t take_from_others() { return std::exchange(from_others_, 0u); }

    // Room for one datagram, where receive() would put number i of a batch: for those who read the socket
    // another way.
    std::span<std::uint8_t> buffer(std::size_t i) { return {buffers_.get() + i * stride, stride}; }

    // Takes time and drops out of the control messages of a datagram.
    void take_control(const msghdr& header, Datagram& datagram) {
        const ControlTimes times =
            read_control({static_cast<const std::uint8_t*>(header.msg_control), header.msg_controllen});
        set_receive_time(datagram, times);
        stats_.timestamp_kind = datagram.timestamp_kind;
        if (times.drops) count_drops(*times.drops);
    }

    // Did the peer's host say that nobody listens there, since the last call?
    bool take_refused() { return std::exchange(refused_, false); }

    // SO_RXQ_OVFL comes only with the next datagram that is queued after a drop; at the end of a burst the
    // socket must be asked.
    void refresh_stats() {
        std::array<std::uint32_t, SK_MEMINFO_VARS> info{};
        socklen_t length = sizeof(info);
        if (getsockopt(fd(), SOL_SOCKET, SO_MEMINFO, info.data(), &length) == 0)
            count_drops(info[SK_MEMINFO_DROPS]);
        int napi_id = 0;
        length = sizeof(napi_id);
        if (getsockopt(fd(), SOL_SOCKET, SO_INCOMING_NAPI_ID, &napi_id, &length) == 0)
            stats_.napi_id = static_cast<std::uint32_t>(napi_id);
    }

  private:
    struct State {
        std::array<mmsghdr, batch> headers;
        std::array<iovec, batch> vectors;
        std::array<sockaddr_in, batch> senders;
        alignas(cmsghdr) std::array<std::array<std::uint8_t, timestamping_control_bytes>, batch> control;
    };
    struct Unmap {
        void operator()(std::uint8_t* memory) const { munmap(memory, batch * stride); }
    };

    // The kernel's counter has 32 bits and wraps; an older value than the last one (a datagram queued before)
    // is not a wrap.
    void count_drops(std::uint32_t drops) {
        const std::uint32_t more = drops - last_drops_;
        if (more == 0 || more >= 0x80000000u) return;
        stats_.kernel_drops += more;
        last_drops_ = drops;
    }

    Descriptor socket_;
    std::uint16_t line_;
    bool refused_ = false;
    in_addr_t only_from_ = 0;
    std::uint64_t from_others_ = 0;
    std::uint32_t last_drops_ = 0;
    SourceStats stats_;
    std::unique_ptr<State>
        state_;  // behind a pointer: the kernel's headers point into it, and receivers move
    std::unique_ptr<std::uint8_t, Unmap> buffers_;
};

}  // namespace fh::receive
