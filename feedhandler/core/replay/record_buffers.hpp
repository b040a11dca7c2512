// A publisher that keeps records in memory until they are taken, one growing buffer a schema; or only counts
// them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "record/dbn.hpp"

namespace fh::replay {

class RecordBuffers {
  public:
    static constexpr std::size_t schemas = dbn::schema_sizes.size();

    // keep = false: records are counted and forgotten.
    RecordBuffers(std::uint32_t schema_mask, bool keep) : mask_(schema_mask), keep_(keep) {}

    void* claim(dbn::Schema schema, std::uint32_t /*sequence_low*/) {
        const auto index = static_cast<std::size_t>(schema);
        const std::size_t size = dbn::schema_sizes[index];
        ++counts_[index];
        Buffer& buffer = buffers_[index];
        if (!keep_) buffer.used = 0;
        if (buffer.used + size > buffer.capacity) grow(buffer);
        void* space = buffer.bytes.get() + buffer.used;
        buffer.used += size;
        return space;
    }
    void commit() {}
    std::uint32_t schema_mask() const { return mask_; }

    std::uint64_t count(std::size_t schema) const { return counts_[schema]; }
    std::size_t bytes(std::size_t schema) const { return keep_ ? buffers_[schema].used : 0; }
    const std::byte* data(std::size_t schema) const { return buffers_[schema].bytes.get(); }
    void clear(std::size_t schema) { buffers_[schema].used = 0; }
    std::size_t bytes() const {
        std::size_t sum = 0;
        for (std::size_t schema = 0; schema < schemas; ++schema) sum += bytes(schema);
        return sum;
    }

  private:
    struct Buffer {
        std::unique_ptr<std::byte[]> bytes;  // as new[] aligns: 16 bytes
        std::size_t used = 0;
        std::size_t capacity = 0;
    };

    static void grow(Buffer& buffer) {
        const std::size_t capacity = buffer.capacity == 0 ? std::size_t{1} << 16 : buffer.capacity * 2;
        auto bytes = std::make_unique_for_overwrite<std::byte[]>(capacity);
        if (buffer.used > 0) std::memcpy(bytes.get(), buffer.bytes.get(), buffer.used);
        buffer.bytes = std::move(bytes);
        buffer.capacity = capacity;
    }

    std::uint32_t mask_;
    bool keep_;
    std::array<Buffer, schemas> buffers_{};
    std::array<std::uint64_t, schemas> counts_{};
};

}  // namespace fh::replay
