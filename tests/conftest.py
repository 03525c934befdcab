"""The order of the tests."""


def pytest_collection_modifyitems(items):
  """The file with the longest test first, so that nothing waits for it."""
  items.sort(key=lambda item: item.path.name != "test_hardware.py")
