"""Where weights come from and how they are read: published files, model folders, the Hub, random ones."""
