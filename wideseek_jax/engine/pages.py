"""Who holds which page: the pool, and the page table of one sequence.

Host side only: integers and token ids, no device array. A page holds the keys
of `page_size` consecutive tokens of one or more sequences. Full pages of equal
token prefixes are shared; the page where two sequences part is copied by the
next device call of the one that came later (it reads the other's page and
writes its own), so each distinct token is computed once. Page 0 is scratch:
padding reads and writes it, nobody owns it.
"""

import collections
import hashlib

import numpy as np

ROOT = b''


def chain_key(parent: bytes, tokens: np.ndarray) -> bytes:
  """Names a full page by its tokens and all tokens before it."""
  data = parent + np.ascontiguousarray(tokens, np.int32).tobytes()
  return hashlib.blake2b(data, digest_size=16).digest()


class PagePool:
  """Reference counts, the free list, and the index of published prefixes.

  A published page without holders stays as a cache, and is the first to go
  (least recently released first) when no page is free.
  """

  def __init__(self, num_pages: int, page_size: int):
    self.num_pages = num_pages
    self.page_size = page_size
    self._holders = np.zeros(num_pages + 1, np.int32)
    self._free = list(range(num_pages, 0, -1))
    self._cached: collections.OrderedDict[int, None] = collections.OrderedDict()
    # What is published: page -> its parent's key, its tokens, how many.
    self._parent: dict[int, bytes] = {}
    self._tokens = np.zeros((num_pages + 1, page_size), np.int32)
    self._filled = np.zeros(num_pages + 1, np.int32)
    self._full: dict[bytes, int] = {}
    self._children: dict[bytes, list[int]] = {}
    # Names of all pages that were ever full: who fills one again repeats work.
    self._known: set[bytes] = set()

  @property
  def available(self) -> int:
    """Pages that `allocate` could hand out."""
    return len(self._free) + len(self._cached)

  @property
  def num_cached(self) -> int:
    """Pages that only the index keeps."""
    return len(self._cached)

  def allocate(self) -> int | None:
    """A page of one's own, None if every page is held."""
    if self._free:
      page = self._free.pop()
    elif self._cached:
      page, _ = self._cached.popitem(last=False)
      self._unpublish(page)
    else:
      return None
    self._holders[page] = 1
    return page

  def share(self, page: int) -> int:
    """Holds a page once more."""
    self._cached.pop(page, None)
    self._holders[page] += 1
    return page

  def release(self, page: int) -> None:
    """Gives up one hold."""
    if self._holders[page] <= 0:
      raise ValueError(f'page {page} is not held')
    self._holders[page] -= 1
    if self._holders[page]:
      return
    if page in self._parent:
      self._cached[page] = None
    else:
      self._free.append(page)

  def publish(self, parent: bytes, page: int, tokens: np.ndarray) -> bool:
    """Lets others find a page.

    Args:
      parent: the key of the page before it, ROOT for the first.
      page: held by the caller, who only ever appends to it.
      tokens: int32 [n], its first n ≤ page_size tokens.

    Returns:
      Whether it is full and holds what another page held already.
    """
    if page not in self._parent:
      self._parent[page] = parent
      self._children.setdefault(parent, []).append(page)
    self._tokens[page, : len(tokens)] = tokens
    self._filled[page] = len(tokens)
    if len(tokens) < self.page_size:
      return False
    key = chain_key(parent, tokens)
    self._full.setdefault(key, page)
    known = key in self._known
    self._known.add(key)
    return known

  def published(self, page: int) -> int:
    """How many tokens of the page others can find."""
    return int(self._filled[page])

  def find(self, parent: bytes, tokens: np.ndarray) -> tuple[int, int]:
    """The published page that begins with most of the tokens.

    Args:
      parent: the key of the page before.
      tokens: int32 [n], n ≤ page_size.

    Returns:
      (page, how many leading tokens agree); (0, 0) if none does.
    """
    if len(tokens) == self.page_size:
      page = self._full.get(chain_key(parent, tokens))
      if page is not None:
        return page, self.page_size
    pages = np.asarray(self._children.get(parent, ()), np.int32)
    if not len(pages) or not len(tokens):
      return 0, 0
    same = self._tokens[pages, : len(tokens)] == tokens[None, :]
    agree = np.logical_and.accumulate(same, axis=1).sum(axis=1)
    agree = np.minimum(agree, self._filled[pages])
    best = int(agree.argmax())
    if not agree[best]:
      return 0, 0
    return int(pages[best]), int(agree[best])

  def known(self, tokens: np.ndarray) -> int:
    """How many of a sequence's first tokens, int32 [n], can be found."""
    count, key = 0, ROOT
    while count < len(tokens):
      wanted = tokens[count : count + self.page_size]
      agree = self.find(key, wanted)[1]
      count += agree
      if agree < self.page_size:
        break
      key = chain_key(key, wanted)
    return count

  def _unpublish(self, page: int) -> None:
    parent = self._parent.pop(page)
    self._children[parent].remove(page)
    if not self._children[parent]:
      del self._children[parent]
    if self._filled[page] == self.page_size:
      key = chain_key(parent, self._tokens[page])
      if self._full.get(key) == page:
        del self._full[key]
    self._filled[page] = 0


class PageTable:
  """The pages of one sequence, in the order of its tokens.

  Attributes:
    length: tokens whose keys the pages hold.
    pages: page ids; all before the last one in use are full.
    borrowed: another's page to read instead of pages[length // page_size] in
      the next device call, 0 if none: that call copies it.
  """

  def __init__(self, pool: PagePool):
    self.length = 0
    self.pages: list[int] = []
    self.borrowed = 0
    self._pool = pool
    # Keys of the full pages, as far as they were asked for.
    self._keys = [ROOT]
    # Place of a page -> how many of its first tokens are a copy.
    self._copied: dict[int, int] = {}

  def match(self, tokens: np.ndarray) -> int:
    """Takes over pages that others computed.

    Args:
      tokens: int32 [n], the sequence's tokens that are to be computed, from
        its first on.

    Returns:
      How many tokens `length` grew by.
    """
    pool, size, before = self._pool, self._pool.page_size, self.length
    if self.borrowed:
      # Nothing was read since: by now there may be a page that shares more.
      self._return_borrowed()
      self.length -= self.length % size
    # A page that is already written in part is the sequence's own.
    while self.length % size == 0 and self.length < len(tokens):
      place = self.length // size
      wanted = tokens[self.length : self.length + size]
      page, agree = pool.find(self._key(tokens, place), wanted)
      if agree == size:
        self.pages.append(pool.share(page))
      elif agree:
        self.borrowed = pool.share(page)
        self._copied[place] = agree
      else:
        break
      self.length += agree
    return self.length - before

  def missing(self, end: int) -> int:
    """Pages to allocate before tokens up to `end` can be written."""
    return max(0, -(-end // self._pool.page_size) - len(self.pages))

  def reserve(self, end: int) -> None:
    """Allocates them; the pool must have as many available."""
    for _ in range(self.missing(end)):
      page = self._pool.allocate()
      if page is None:
        raise RuntimeError('no page available')
      self.pages.append(page)

  def fill_read(self, row_N: np.ndarray) -> None:
    """Writes the ids of the pages to read into a row of zeros."""
    count = min(len(self.pages), len(row_N))
    row_N[:count] = self.pages[:count]
    if self.borrowed:
      row_N[self.length // self._pool.page_size] = self.borrowed

  def fill_write(self, row_W: np.ndarray) -> None:
    """Writes the ids of the pages that the next tokens touch into a row."""
    first = self.length // self._pool.page_size
    pages = self.pages[first : first + len(row_W)]
    row_W[: len(pages)] = pages

  def advance(self, count: int) -> None:
    """Notes that a device call wrote `count` tokens (and made the copy)."""
    self._return_borrowed()
    self.length += count

  def publish(self, tokens: np.ndarray) -> int:
    """Lets others find all that the table holds of the sequence's tokens.

    Returns:
      How many tokens of the pages now full had been computed before by
      somebody: work done twice.
    """
    size, again = self._pool.page_size, 0
    # What is only borrowed has not been copied to a page of its own.
    end = self.length - (self.length % size if self.borrowed else 0)
    for start in range(0, end, size):
      place = start // size
      held = tokens[start : min(start + size, end)]
      if self._pool.published(self.pages[place]) < len(held):
        parent = self._key(tokens, place)
        if self._pool.publish(parent, self.pages[place], held):
          again += size - self._copied.get(place, 0)
    return again

  def signature(self, tokens: np.ndarray) -> bytes:
    """Equal for sequences whose next token to compute has equal history."""
    place = self.length // self._pool.page_size
    start = place * self._pool.page_size
    recent = np.ascontiguousarray(tokens[start : self.length + 1], np.int32)
    return self._key(tokens, place) + recent.tobytes()

  def trim(self) -> None:
    """Releases pages that hold no token yet."""
    self._drop(-(-self.length // self._pool.page_size))

  def clear(self) -> None:
    """Releases everything."""
    self._return_borrowed()
    self._drop(0)
    self._copied.clear()
    self.length = 0

  def _key(self, tokens: np.ndarray, place: int) -> bytes:
    size = self._pool.page_size
    while len(self._keys) <= place:
      start = (len(self._keys) - 1) * size
      parent = self._keys[-1]
      self._keys.append(chain_key(parent, tokens[start : start + size]))
    return self._keys[place]

  def _return_borrowed(self) -> None:
    if self.borrowed:
      self._pool.release(self.borrowed)
      self.borrowed = 0

  def _drop(self, keep: int) -> None:
    # The last first: the cache then forgets the ends of prefixes before their
    # beginnings.
    while len(self.pages) > keep:
      self._pool.release(self.pages.pop())
