// A publisher that keeps everything: one growing buffer a schema, for files and tests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "record/dbn.hpp"

namespace fh::record {

class BufferPublisher {
  public:
    explicit BufferPublisher(std::uint32_t schema_mask) : schema_mask_(schema_mask) {}

    // Valid until the next claim of the schema; bodies are multiples of 8, so each lies aligned.
    void* claim(dbn::Schema schema, std::uint32_t) {
        std::vector<std::byte>& buffer = buffers_[static_cast<std::size_t>(schema)];
        const std::size_t at = buffer.size();
        buffer.resize(at + dbn::schema_sizes[static_cast<std::size_t>(schema)]);
        return buffer.data() + at;
    }
    void commit() {}
    std::uint32_t schema_mask() const { return schema_mask_; }

    std::vector<std::byte>& buffer(dbn::Schema schema) { return buffers_[static_cast<std::size_t>(schema)]; }

  private:
    std::uint32_t schema_mask_;
    std::array<std::vector<std::byte>, 8> buffers_;
};

// Nobody listens: books only.
struct NullPublisher {
    void* claim(dbn::Schema, std::uint32_t) { return nullptr; }
    void commit() {}
    static constexpr std::uint32_t schema_mask() { return 0; }
};

}  // namespace fh::record
