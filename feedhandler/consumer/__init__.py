from feedhandler.consumer.batch import Batch
from feedhandler.consumer.book import Book
from feedhandler.consumer.consumer import Consumer
from feedhandler.consumer.state import FeedState

__all__ = ["Batch", "Book", "Consumer", "FeedState"]
