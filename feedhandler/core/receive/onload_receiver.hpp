// Reads one socket that Onload may accelerate: by recvmmsg, which Onload intercepts, or without a copy.
#pragma once

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "receive/onload_interface.hpp"
#include "receive/udp_receiver.hpp"

namespace fh::receive {

class OnloadReceiver {
  public:
    OnloadReceiver(UdpReceiver socket, std::uint16_t line, const onload::Library& library, bool zero_copy)
        : socket_(std::move(socket)),
          onload_(&library),
          line_(line),
          accelerated_(library.accelerates(socket_.fd())),
          zero_copy_(zero_copy && accelerated_ && library.has_zero_copy()) {}
    OnloadReceiver(OnloadReceiver&& other) noexcept
        : socket_(std::move(other.socket_)),
          onload_(other.onload_),
          line_(other.line_),
          accelerated_(other.accelerated_),
          zero_copy_(other.zero_copy_),
          kind_(other.kind_),
          kept_(other.kept_),
          kept_count_(std::exchange(other.kept_count_, 0)) {}
    OnloadReceiver& operator=(OnloadReceiver&&) = delete;
    ~OnloadReceiver() { release(); }

    int fd() const { return socket_.fd(); }
    bool accelerated() const { return accelerated_; }
    SourceStats stats() const {
        SourceStats out = socket_.stats();
        out.accelerated = accelerated_;
        out.zero_copy = zero_copy_;
        out.timestamp_kind = kind_;
        return out;
    }
    void refresh_stats() { socket_.refresh_stats(); }

    // What was received before is given back.
    std::size_t receive(std::span<Datagram> out, ReceiveCounters& counters) {
        release();
        if (!zero_copy_) return receive_copies(out, counters);
        out_ = out.first(std::min(out.size(), UdpReceiver::batch));
        count_ = 0;
        if (out_.empty()) return 0;
        onload::ReceiveCall call{};
        call.message.header.msg_control = control_.data();
        call.message.header.msg_controllen = control_.size();
        call.message.header.msg_name = &sender_;
        call.message.header.msg_namelen = sizeof(sender_);
        call.callback = [](onload::ReceiveCall* of, int /*flags*/) {
            return static_cast<OnloadReceiver*>(of->user)->take(of->message);
        };
        call.user = this;
        call.flags = MSG_DONTWAIT;
        switch (onload_->zc_recv(fd(), &call)) {
            case -ENOTEMPTY:  // also after datagrams that came through Onload
                receive_from_kernel(counters);
                break;
            case -ENOSYS:
            case -EOPNOTSUPP:
            case -EINVAL:
                zero_copy_ = false;  // this Onload cannot: for good
                break;
            case -ESOCKTNOSUPPORT:  // not, or no longer, Onload's
                zero_copy_ = accelerated_ = false;
                break;
            default:  // 0, or nothing there, or an error of the socket that is over now that it has been read
                break;
        }
        counters.other_traffic += std::exchange(from_others_, 0u);
        if (!zero_copy_ && count_ == 0) return receive_copies(out, counters);
        return count_;
    }

  private:
    std::size_t receive_copies(std::span<Datagram> out, ReceiveCounters& counters) {
        const std::size_t count = socket_.receive(out);
        counters.other_traffic += socket_.take_from_others();
        for (Datagram& datagram : out.first(count)) set_kind(datagram, accelerated_);
        if (!accelerated_) counters.by_kernel += count;
        return count;
    }

    // One datagram through Onload. Those in several pieces (beyond about 1,800 bytes) are put together.
    onload::Answer take(onload::Pieces& message) {
        if (count_ == out_.size()) return onload::Answer::terminate;  // cannot be: it was told to end
        if (socket_.only_from() != 0 && sender_.sin_addr.s_addr != socket_.only_from()) {
            ++from_others_;
            return onload::Answer::go_on;
        }
        const std::size_t pieces = message.header.msg_iovlen;
        Datagram datagram{nullptr, 0, line_, TimestampKind::none, 0};
        if (pieces == 1) {
            datagram.data = message.pieces->data;
            datagram.length = static_cast<std::uint32_t>(message.pieces->length);
            kept_[kept_count_++] = message.pieces->buffer;
        } else {
            const std::span<std::uint8_t> room = socket_.buffer(count_);
            std::size_t length = 0;
            for (const onload::Piece& piece : std::span(message.pieces, pieces)) {
                if (piece.length > room.size() - length) break;  // no UDP datagram is so long
                std::memcpy(room.data() + length, piece.data, piece.length);
                length += piece.length;
            }
            datagram.data = room.data();
            datagram.length = static_cast<std::uint32_t>(length);
        }
        socket_.take_control(message.header, datagram);
        set_kind(datagram, true);
        out_[count_++] = datagram;
        const bool full = count_ == out_.size();
        if (pieces == 1) return full ? onload::Answer::keep_and_terminate : onload::Answer::keep;
        return full ? onload::Answer::terminate : onload::Answer::go_on;
    }

    // What waits at the kernel's side of the socket: fragments, other devices, loopback.
    void receive_from_kernel(ReceiveCounters& counters) {
        while (count_ < out_.size()) {
            const std::span<std::uint8_t> room = socket_.buffer(count_);
            iovec vector{room.data(), room.size()};
            msghdr header{};
            header.msg_iov = &vector;
            header.msg_iovlen = 1;
            header.msg_control = control_.data();
            header.msg_controllen = control_.size();
            const int got = onload_->recvmsg_kernel(fd(), &header, MSG_DONTWAIT);
            if (got <= 0) return;  // some versions say 0 when there is nothing more
            Datagram& datagram = out_[count_++];
            datagram = {room.data(), static_cast<std::uint32_t>(got), line_, TimestampKind::none, 0};
            socket_.take_control(header, datagram);
            set_kind(datagram, false);
            ++counters.by_kernel;
        }
    }

    // The software's time of a datagram that came through Onload was taken in this process, not in the
    // kernel.
    void set_kind(Datagram& datagram, bool through_onload) {
        if (through_onload && datagram.timestamp_kind == TimestampKind::kernel)
            datagram.timestamp_kind = TimestampKind::user;
        kind_ = datagram.timestamp_kind;
    }

    void release() {
        if (kept_count_ == 0) return;
        onload_->release_buffers(fd(), kept_.data(), static_cast<int>(kept_count_));
        kept_count_ = 0;
    }

    UdpReceiver socket_;
    const onload::Library* onload_;
    std::uint16_t line_;
    bool accelerated_;
    bool zero_copy_;
    TimestampKind kind_ = TimestampKind::none;
    std::array<onload::Handle, UdpReceiver::batch> kept_{};  // buffers of what was handed out
    std::size_t kept_count_ = 0;

    // While zc_recv runs.
    std::span<Datagram> out_;
    std::size_t count_ = 0;
    std::uint64_t from_others_ = 0;
    sockaddr_in sender_{};
    alignas(cmsghdr) std::array<std::uint8_t, timestamping_control_bytes> control_{};
};

}  // namespace fh::receive
