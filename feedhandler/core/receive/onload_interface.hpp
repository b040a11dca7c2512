// What is used of Onload's interface. Declared here from its published headers (onload/extensions.h and
// onload/extensions_zc.h, Onload 8 and later) and found at run time: nothing is linked, and a build needs
// nothing of it. All of it is in the process only when that was started under `onload`.
#pragma once

#include <dlfcn.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace fh::receive::onload {

using Handle = struct oo_zc_buf*;  // of a packet buffer; opaque

// struct onload_stat
struct Stat {
    std::int32_t stack_id;
    char* stack_name;  // the caller frees it
    std::int32_t endpoint_id;
    std::int32_t endpoint_state;
};
static_assert(sizeof(Stat) == 24);

// struct onload_zc_iovec; its last word belongs to sending and to other address spaces
struct Piece {
    std::uint8_t* data;
    std::size_t length;
    Handle buffer;
    unsigned flags;
    std::uint64_t unused;
};
static_assert(sizeof(Piece) == 40);

// struct onload_zc_msg: header.msg_iovlen pieces are one datagram; header.msg_iov is not used
struct Pieces {
    Piece* pieces;
    msghdr header;
};
static_assert(sizeof(Pieces) == 64);

// enum onload_zc_callback_rc: bits
enum class Answer : unsigned { go_on = 0, terminate = 1, keep = 2, keep_and_terminate = 3 };
static_assert(sizeof(Answer) == 4);

// struct onload_zc_recv_args
struct ReceiveCall {
    Pieces message;
    Answer (*callback)(ReceiveCall*, int flags);
    void* user;
    int flags;  // MSG_DONTWAIT
};
static_assert(sizeof(ReceiveCall) == 88);

inline constexpr int this_thread = 0;    // ONLOAD_THIS_THREAD
inline constexpr int scope_process = 2;  // ONLOAD_SCOPE_PROCESS
inline constexpr int spin_all = 0;       // ONLOAD_SPIN_ALL
inline constexpr int spin_udp_recv = 1;  // ONLOAD_SPIN_UDP_RECV

class Library {
  public:
    int (*is_present)() = find<int()>("onload_is_present");
    int (*fd_stat)(int fd, Stat*) = find<int(int, Stat*)>("onload_fd_stat");
    int (*set_stackname)(int who, int scope,
                         const char* name) = find<int(int, int, const char*)>("onload_set_stackname");
    int (*stack_opt_set_int)(const char* option, std::int64_t value) =
        find<int(const char*, std::int64_t)>("onload_stack_opt_set_int");
    int (*thread_set_spin)(int type, int spin) = find<int(int, int)>("onload_thread_set_spin");
    // The three of receiving without a copy return 0 (bytes) or a negative errno; recvmsg_kernel -1 and
    // errno.
    int (*zc_recv)(int fd, ReceiveCall*) = find<int(int, ReceiveCall*)>("onload_zc_recv");
    int (*release_buffers)(int fd, Handle*, int) = find<int(int, Handle*, int)>("onload_zc_release_buffers");
    int (*recvmsg_kernel)(int fd, msghdr*, int flags) = find<int(int, msghdr*, int)>("onload_recvmsg_kernel");

    // The first of two questions. A library whose kernel module is missing says yes.
    bool present() const { return is_present != nullptr && is_present() == 1; }

    // The second one, for a socket that is bound and has joined: either may hand it to the kernel.
    bool accelerates(int fd) const {
        if (!present() || fd_stat == nullptr) return false;
        Stat stat{};
        const bool yes = fd_stat(fd, &stat) == 1;
        if (yes) std::free(stat.stack_name);
        return yes;
    }

    bool has_zero_copy() const {
        return zc_recv != nullptr && release_buffers != nullptr && recvmsg_kernel != nullptr;
    }

  private:
    template <class F>
    static F* find(const char* name) {
        return reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
    }
};

}  // namespace fh::receive::onload
