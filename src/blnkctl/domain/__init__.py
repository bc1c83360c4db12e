"""Values and rules of Blnk's API keys. Pure: no network, no file but the packaged route table, no terminal."""
