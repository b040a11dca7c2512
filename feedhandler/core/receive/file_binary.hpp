// Reads BinaryFILE from memory: records of `u16` big-endian length + message; a zero-length record ends the
// file, and so does its end.
#pragma once

#include "message.hpp"
#include "receive/file_bytes.hpp"

namespace fh::receive {

class BinaryFileReader {
  public:
    explicit BinaryFileReader(FileBytes file) : file_(file) {}

    // The record at offset() without moving on; false at the end.
    bool peek(Message& out) {
        if (end_ != FileEnd::none) return false;
        const std::size_t left = file_.size() - offset_;
        if (left < 2) return stop(left == 0 ? FileEnd::whole : FileEnd::truncated);
        const auto length = load<std::uint16_t>(file_, offset_, true);
        if (length == 0) return stop(FileEnd::whole);
        if (length > left - 2) return stop(FileEnd::truncated);
        out = Message{file_.data() + offset_ + 2, length};
        return true;
    }
    // Moves behind the record that peek() showed.
    void skip(const Message& message) { offset_ += 2u + message.length; }

    bool next(Message& out) {
        if (!peek(out)) return false;
        skip(out);
        return true;
    }

    FileEnd end() const { return end_; }
    std::uint64_t offset() const { return offset_; }
    // Bytes behind the zero-length record.
    std::uint64_t trailing() const {
        const std::size_t left = file_.size() - offset_;
        return end_ == FileEnd::whole && left > 2 ? left - 2 : 0;
    }

  private:
    bool stop(FileEnd why) {
        end_ = why;
        return false;
    }

    FileBytes file_;
    std::size_t offset_ = 0;
    FileEnd end_ = FileEnd::none;
};

}  // namespace fh::receive
