// Order reference to order handle. Exchanges hand references out roughly in order, so that recent ones lie
// close together: pages of 4,096 references, found by their upper bits. Pages are recycled when empty; when
// there are too many, the oldest gives its survivors to a hash. Nothing depends on density but speed.
#pragma once

#include <cstdint>

#include "book/memory.hpp"
#include "book/sparse_index.hpp"

namespace fh::book {

class OrderIndex {
  public:
    static constexpr unsigned page_bits = 12;
    static constexpr std::uint32_t page_size = 1u << page_bits;

    OrderIndex(std::uint32_t pages, std::uint32_t max_orders)
        : directory_(directory_size + 1, Pages::small),
          slots_(std::size_t{pages + 1} * page_size, Pages::huge),
          pages_(std::size_t{pages} + 1, Pages::small),
          sparse_(max_orders),
          page_limit_(pages) {}

    // Orders that stay keep their pages: one page for 128 live orders was seen over ten million messages.
    std::size_t prefault(std::uint32_t orders) {
        const std::size_t pages = std::min<std::size_t>(orders / 128, page_limit_) + 1;
        return directory_.prefault(std::size_t{1} << 18) + slots_.prefault(pages * page_size) +
               pages_.prefault(pages);
    }

    std::uint32_t find(std::uint64_t reference) const {
        const std::uint32_t entry = directory_[directory_slot(reference)];
        const std::uint32_t handle = *slot(entry, reference);
        if (handle == 0 && (entry & in_sparse) != 0) [[unlikely]]
            return sparse_.find(reference);
        return handle;
    }

    // Where a reference was found, or would go: spares the next look-up. Good until anything else is inserted
    // or erased.
    struct Place {
        std::uint32_t* slot;
        std::uint32_t page;  // 0: none
    };
    std::uint32_t find(std::uint64_t reference, Place& place) const {
        const std::uint32_t entry = directory_[directory_slot(reference)];
        place = {slot(entry, reference), entry & page_mask};
        const std::uint32_t handle = *place.slot;
        if (handle == 0 && (entry & in_sparse) != 0) [[unlikely]]
            return sparse_.find(reference);
        return handle;
    }

    void insert(std::uint64_t reference, std::uint32_t handle, const Place& place) {
        if (place.page == 0) [[unlikely]]
            return insert(reference, handle);
        *place.slot = handle;
        ++pages_[place.page].live;
        ++pages_[place.page].ever;
    }

    void erase(std::uint64_t reference, const Place& place) {
        if (*place.slot == 0) [[unlikely]]
            return sparse_.erase(reference);
        *place.slot = 0;
        if (--pages_[place.page].live == 0) [[unlikely]]
            close_page(place.page);
    }

    // Where a reference is looked up, to be fetched early. (An address, as gcc drops calls that only
    // prefetch.)
    const std::uint32_t* place(std::uint64_t reference) const {
        const std::uint32_t entry = directory_[directory_slot(reference)];
        const std::uint32_t* at = slot(entry, reference);
        if (entry == in_sparse) [[unlikely]]
            return sparse_.place(reference);  // a range without a page
        return at;
    }

    // Of a reference that is not in it. Needs a place for every order of the pool: never fails.
    void insert(std::uint64_t reference, std::uint32_t handle) {
        const std::uint64_t at = directory_slot(reference);
        std::uint32_t entry = directory_[at];
        if ((entry & page_mask) == 0) [[unlikely]] {
            if (!open_page(at)) {
                directory_[at] |= in_sparse;
                sparse_.insert(reference, handle);
                return;
            }
            entry = directory_[at];
        }
        *slot(entry, reference) = handle;
        Page& page = pages_[entry & page_mask];
        ++page.live;
        ++page.ever;
    }

    void erase(std::uint64_t reference) {
        const std::uint32_t entry = directory_[directory_slot(reference)];
        std::uint32_t* at = slot(entry, reference);
        if (*at == 0) [[unlikely]] {
            sparse_.erase(reference);
            return;
        }
        *at = 0;
        const std::uint32_t page = entry & page_mask;
        if (--pages_[page].live == 0) [[unlikely]]
            close_page(page);
    }

    void clear() {
        while (oldest_ != 0) {
            const std::uint32_t page = oldest_;
            std::uint32_t* at = &slots_[std::size_t{page} * page_size];
            for (std::uint32_t i = 0; pages_[page].live != 0; ++i) {
                if (at[i] != 0) --pages_[page].live;
                at[i] = 0;
            }
            close_page(page);
        }
        sparse_.clear();
    }

    std::uint32_t pages_in_use() const { return in_use_; }
    std::uint32_t sparse_references() const { return sparse_.size(); }

  private:
    // References beyond the directory (2^36, twenty times a busy day's) are always hashed: its last entry
    // says so.
    static constexpr std::uint64_t directory_size = std::uint64_t{1} << (36 - page_bits);
    static constexpr std::uint32_t in_sparse = 1u << 31;
    static constexpr std::uint32_t page_mask = in_sparse - 1;

    struct Page {
        std::uint16_t live;
        std::uint16_t ever;   // insertions; wraps, as it only tells sparse from dense
        std::uint32_t older;  // toward oldest_; free pages: the next free one
        std::uint32_t newer;
        std::uint32_t directory_slot;
    };

    static std::uint64_t directory_slot(std::uint64_t reference) {
        const std::uint64_t at = reference >> page_bits;
        return at < directory_size ? at : directory_size;
    }
    // Page 0 stays all zero: an absent page needs no test.
    std::uint32_t* slot(std::uint32_t entry, std::uint64_t reference) const {
        return &slots_[std::size_t{entry & page_mask} * page_size + (reference & (page_size - 1))];
    }

    bool open_page(std::uint64_t at) {
        if (at == directory_size) return false;
        // A run of pages that died nearly empty: these references are sparse. Try a page now and then all the
        // same.
        if (sparse_score_ >= 16 && (++sparse_tries_ & 63) != 0) return false;
        std::uint32_t page = free_;
        if (page != 0) {
            free_ = pages_[page].older;
        } else if (used_ < page_limit_) {
            page = ++used_;
        } else {
            evict(oldest_);
            page = free_;
            free_ = pages_[page].older;
        }
        pages_[page] = {0, 0, newest_, 0, static_cast<std::uint32_t>(at)};
        (newest_ != 0 ? pages_[newest_].newer : oldest_) = page;
        newest_ = page;
        directory_[at] |= page;
        ++in_use_;
        return true;
    }

    void close_page(std::uint32_t page) {
        Page& p = pages_[page];
        (p.older != 0 ? pages_[p.older].newer : oldest_) = p.newer;
        (p.newer != 0 ? pages_[p.newer].older : newest_) = p.older;
        directory_[p.directory_slot] &= in_sparse;
        p.older = free_;
        free_ = page;
        --in_use_;
    }

    void evict(std::uint32_t page) {
        Page& p = pages_[page];
        sparse_score_ = p.ever <= 8 ? sparse_score_ + 1 : 0;
        std::uint32_t* at = &slots_[std::size_t{page} * page_size];
        const std::uint64_t base = std::uint64_t{p.directory_slot} << page_bits;
        for (std::uint32_t i = 0; p.live != 0; ++i) {
            if (at[i] == 0) continue;
            sparse_.insert(base + i, at[i]);
            at[i] = 0;
            --p.live;
        }
        directory_[p.directory_slot] |= in_sparse;
        close_page(page);
    }

    Reserved<std::uint32_t> directory_;  // page | in_sparse
    Reserved<std::uint32_t> slots_;
    Reserved<Page> pages_;
    SparseIndex sparse_;
    std::uint32_t page_limit_;
    std::uint32_t used_ = 0;
    std::uint32_t free_ = 0;
    std::uint32_t in_use_ = 0;
    std::uint32_t oldest_ = 0;
    std::uint32_t newest_ = 0;
    std::uint32_t sparse_score_ = 0;
    std::uint32_t sparse_tries_ = 0;
};

}  // namespace fh::book
