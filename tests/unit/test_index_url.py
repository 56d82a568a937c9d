"""INDEX_URL: where the index is."""

from __future__ import annotations

import re

import pytest

from futu import config
from futu.errors import SettingsError
from futu.index.milvus_server import (
    MilvusAddress,
    collection_name,
    masked_index_url,
    milvus_address,
)


@pytest.mark.parametrize(
    ("url", "uri", "token", "database"),
    [
        ("milvus://host:1", "http://host:1", "", ""),
        ("milvus://host", "http://host:19530", "", ""),
        ("milvuss://user:p%40ss@host/db", "https://host:19530", "user:p@ss", "db"),
        ("milvus://key@[::1]:5", "http://[::1]:5", "key", ""),
    ],
)
def test_url_of_a_server_is_read_with_its_token(
    url: str, uri: str, token: str, database: str
) -> None:
    assert config.load(index_url=url).index_url == url
    assert milvus_address(url) == MilvusAddress(uri, token, database)


def test_token_of_the_setting_counts_when_the_url_has_none() -> None:
    assert milvus_address("milvus://host", "a:b") == MilvusAddress("http://host:19530", "a:b")
    assert milvus_address("milvus://c@host", "a:b") == MilvusAddress("http://host:19530", "c")


@pytest.mark.parametrize("url", ["milvus-lite:/x/index.db", "/x/index.db"])
def test_path_of_a_file_is_read(url: str) -> None:
    assert config.load(index_url=url).index_url == url
    address = milvus_address(url)
    assert address == MilvusAddress("/x/index.db")
    assert address.embedded


def test_files_in_the_data_directory_need_no_server() -> None:
    assert milvus_address(config.load().index_url) is None


@pytest.mark.parametrize(
    "url", ["", "milvus:", "milvus://", "milvus://host:x", "http://host", "index.sqlite", "faiss"]
)
def test_other_urls_are_refused_with_what_is_allowed(url: str) -> None:
    with pytest.raises(SettingsError, match=re.escape("milvus-lite:FILE.db")):
        milvus_address(config.load(index_url=url).index_url if url else url)


def test_secrets_are_not_shown() -> None:
    assert masked_index_url("milvus://user:secret@host:1/db") == "milvus://***@host:1/db"
    assert "secret" not in repr(milvus_address("milvus://user:secret@host"))
    with pytest.raises(SettingsError) as caught:
        config.load(index_url="redis://user:secret@host")
    assert "secret" not in str(caught.value)


def test_each_model_has_a_collection_with_an_allowed_name() -> None:
    models = ("m-1", "m.1", "m_1", "模型", "m" * 128)
    names = {collection_name("a" * 32, model) for model in models}
    assert len(names) == len(models)
    assert all(re.fullmatch(r"[A-Za-z_]\w{0,254}", name, re.ASCII) for name in names)
