// A sorted sequence in a ring of fixed capacity: constant time at both ends, the shorter side moves in the
// middle.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace fh::sequence {

// T has `first` and `end` (half open, disjoint, ascending). Allocates once, in the constructor.
template <class T>
class SortedRing {
  public:
    explicit SortedRing(std::size_t capacity)
        : mask_(std::bit_ceil(capacity) - 1), items_(std::make_unique<T[]>(mask_ + 1)) {}

    std::size_t size() const { return size_; }
    std::size_t capacity() const { return mask_ + 1; }
    bool empty() const { return size_ == 0; }
    bool full() const { return size_ > mask_; }
    T& operator[](std::size_t i) { return items_[(head_ + i) & mask_]; }
    const T& operator[](std::size_t i) const { return items_[(head_ + i) & mask_]; }
    T& front() { return items_[head_ & mask_]; }
    const T& front() const { return items_[head_ & mask_]; }
    T& back() { return (*this)[size_ - 1]; }
    const T& back() const { return (*this)[size_ - 1]; }

    // Index of the first item that ends above `sequence`: it contains it, or lies behind it; size() if none.
    std::size_t find(std::uint64_t sequence) const {
        if (size_ == 0 || front().end > sequence) return 0;  // nearly always the first
        std::size_t low = 1, high = size_;
        while (low < high) {
            const std::size_t middle = (low + high) / 2;
            if ((*this)[middle].end > sequence)
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }

    void push_back(const T& item) { items_[(head_ + size_++) & mask_] = item; }

    void insert(std::size_t at, const T& item) {
        if (at < size_ / 2) {
            --head_;
            ++size_;
            for (std::size_t i = 0; i < at; ++i) (*this)[i] = (*this)[i + 1];
        } else {
            ++size_;
            for (std::size_t i = size_ - 1; i > at; --i) (*this)[i] = (*this)[i - 1];
        }
        (*this)[at] = item;
    }

    void erase(std::size_t at) {
        if (at < size_ / 2) {
            for (std::size_t i = at; i > 0; --i) (*this)[i] = (*this)[i - 1];
            ++head_;
        } else {
            for (std::size_t i = at; i + 1 < size_; ++i) (*this)[i] = (*this)[i + 1];
        }
        --size_;
    }

    void clear() { size_ = 0; }

  private:
    std::size_t mask_;
    std::size_t head_ = 0;
    std::size_t size_ = 0;
    std::unique_ptr<T[]> items_;
};

}  // namespace fh::sequence
