// Records put together for Python: runs of one schema and one state, bodies back to back, in feed order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "../record/dbn.hpp"
#include "layout.hpp"

namespace fh::publish {

struct Run {
    std::uint8_t schema;     // dbn::Schema
    std::uint8_t state;      // FeedState when they were published
    std::uint32_t sequence;  // of the last record, low 32 bits
    std::size_t offset;      // bytes
    std::size_t count;       // records
};

class BatchBuilder {
  public:
    BatchBuilder() = default;
    BatchBuilder(const BatchBuilder&) = delete;
    BatchBuilder& operator=(const BatchBuilder&) = delete;
    ~BatchBuilder() { std::free(data_); }

    void add(const RecordHeader& header, const std::byte* body) {
        const std::size_t length = header.length - sizeof(RecordHeader);
        if (size_ + length > capacity_) grow();
        std::memcpy(data_ + size_, body, length);
        if (runs_.empty() || runs_.back().schema != header.schema || runs_.back().state != header.state)
            runs_.push_back({header.schema, header.state, 0, size_, 0});
        runs_.back().sequence = header.sequence;
        ++runs_.back().count;
        size_ += length;
    }

    const std::vector<Run>& runs() const { return runs_; }
    std::size_t size() const { return size_; }

    // Hands the bytes over; the receiver frees them. The builder is empty afterwards.
    std::byte* take() {
        std::byte* data = data_;
        data_ = nullptr;
        size_ = capacity_ = 0;
        return data;
    }
    void clear_runs() { runs_.clear(); }

  private:
    void grow() {
        const std::size_t wanted = capacity_ == 0 ? 4096 : 2 * capacity_;
        auto* data = static_cast<std::byte*>(std::realloc(data_, wanted));
        if (data == nullptr) throw std::bad_alloc();
        data_ = data;
        capacity_ = wanted;
    }

    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
    std::vector<Run> runs_;
};

}  // namespace fh::publish
