"""Where stored bytes come from: the system's cache, pages that the process reads itself, or a remote file's copy."""

from .base import MemoryContext, MemoryManager
from .os_cache import OSCacheManager
from .process_cache import ProcessCacheManager
from .remote_cache import RemoteCacheManager

__all__ = ["MemoryContext", "MemoryManager", "OSCacheManager", "ProcessCacheManager", "RemoteCacheManager"]
