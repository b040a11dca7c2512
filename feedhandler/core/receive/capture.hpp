// Reads pcap and pcapng from memory, frame by frame; what a file is, is told by its first bytes.
#pragma once

#include <cstdint>
#include <variant>

#include "receive/capture_pcap.hpp"
#include "receive/capture_pcapng.hpp"
#include "receive/file_bytes.hpp"

namespace fh::receive {

class Capture {
  public:
    static bool recognises(FileBytes file) {
        return PcapReader::recognises(file) || PcapngReader::recognises(file);
    }

    // `file` must be one that recognises() accepts, and outlive the reader.
    explicit Capture(FileBytes file) : reader_(PcapngReader{file}) {
        if (PcapReader::recognises(file)) reader_ = PcapReader{file};
    }

    // False at the end; end() and offset() then say how and where.
    bool next(Frame& out) {
        return std::visit([&](auto& reader) { return reader.next(out); }, reader_);
    }
    FileEnd end() const {
        return std::visit([](const auto& reader) { return reader.end(); }, reader_);
    }
    // Bytes from the start of the file to the record that next() would read, or that it refused.
    std::uint64_t offset() const {
        return std::visit([](const auto& reader) { return reader.offset(); }, reader_);
    }

  private:
    std::variant<PcapReader, PcapngReader> reader_;
};

}  // namespace fh::receive
