// A file in memory, and the two kinds of it that a channel needs: made by its writer, seen by its readers.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "../populate.hpp"

namespace fh::publish {

// One line: the path, what failed, why.
struct ChannelError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const std::string& path, const std::string& what, int error = errno) {
    throw ChannelError(path + ": " + what + ": " + std::generic_category().message(error));
}

class FileDescriptor {
  public:
    FileDescriptor() = default;
    explicit FileDescriptor(int fd) : fd_(fd) {}
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~FileDescriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    int get() const { return fd_; }

  private:
    int fd_ = -1;
};

class Mapping {
  public:
    Mapping() = default;

    // A new file of zero bytes with its space really there (a sparse file on a full disk kills the writer
    // with SIGBUS later), in place of a left-over one, every page present: no page fault on the receive
    // thread.
    static Mapping create(const std::string& path, std::size_t size, mode_t mode) {
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail(path, "cannot remove the old file");
        Mapping mapping;
        mapping.fd_ = FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
        if (mapping.fd_.get() < 0) fail(path, "cannot create");
        if (::fchmod(mapping.fd_.get(), mode) != 0) fail(path, "cannot set the mode");
        if (const int error = ::posix_fallocate(mapping.fd_.get(), 0, static_cast<off_t>(size)))
            fail(path, "no space for " + std::to_string(size) + " bytes", error);
        mapping.map(path, size, PROT_READ | PROT_WRITE);
        return mapping;
    }

    static Mapping open(const std::string& path, bool writable = false) {
        Mapping mapping;
        mapping.fd_ = FileDescriptor(::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
        if (mapping.fd_.get() < 0) fail(path, "cannot open");
        struct stat status {};
        if (::fstat(mapping.fd_.get(), &status) != 0) fail(path, "cannot stat");
        if (status.st_size == 0) fail(path, "empty", EINVAL);
        mapping.map(path, static_cast<std::size_t>(status.st_size),
                    writable ? PROT_READ | PROT_WRITE : PROT_READ);
        return mapping;
    }

    Mapping(Mapping&& other) noexcept { *this = std::move(other); }
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(fd_, other.fd_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Mapping() {
        if (data_ != nullptr) ::munmap(data_, size_);
    }

    std::byte* data() { return data_; }
    const std::byte* data() const { return data_; }
    std::size_t size() const { return size_; }
    int fd() const { return fd_.get(); }

  private:
    void map(const std::string& path, std::size_t size, int protection) {
        void* memory = ::mmap(nullptr, size, protection, MAP_SHARED | MAP_POPULATE, fd_.get(), 0);
        if (memory == MAP_FAILED) fail(path, "cannot map");
        if ((protection & PROT_WRITE) != 0) populate(memory, size);
        data_ = static_cast<std::byte*>(memory);
        size_ = size;
    }

    FileDescriptor fd_;
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

// Open-file-description locks: they belong to the descriptor, end with it, and do not die with another
// descriptor's close.
inline bool try_lock(int fd, short type, off_t start = 0, off_t length = 0) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = start;
    lock.l_len = length;
    return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// Does anybody else hold a write lock on the file?
inline bool is_write_locked(int fd) {
    struct flock lock {};
    lock.l_type = F_RDLCK;
    lock.l_whence = SEEK_SET;
    return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
}

}  // namespace fh::publish
