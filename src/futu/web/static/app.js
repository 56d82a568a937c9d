// The page: a picture in, its neighbours out; the list of datasets and their builds.

const TEXTS = {
  en: {
    tagline: "Which of my pictures look like this one?",
    search: "Search",
    drop: "Drop a picture here, paste one, or choose a file",
    dataset: "Dataset",
    mode: "Find",
    similar: "Look-alikes",
    copy: "Copies",
    count: "Results",
    datasets: "Datasets",
    all: "All datasets",
    none: "No datasets yet. Put a folder of pictures into the datasets folder and reload.",
    searching: "Searching…",
    found: (n) => (n === 1 ? "1 result" : `${n} results`),
    images: (d) => `${d.indexed} of ${d.image_count} images indexed`,
    index: "Index",
    again: "Search with this one",
    failed: (n) => `${n} failed`,
    unreachable: "The server does not answer. Is it running?",
    other: "中文",
  },
  zh: {
    tagline: "我的图片里，哪些和这张相似？",
    search: "以图搜图",
    drop: "把图片拖到这里、粘贴，或选择文件",
    dataset: "数据集",
    mode: "查找",
    similar: "相似图片",
    copy: "副本",
    count: "结果数",
    datasets: "数据集",
    all: "全部数据集",
    none: "还没有数据集。把图片文件夹放进 datasets 目录后刷新。",
    searching: "正在搜索…",
    found: (n) => `${n} 个结果`,
    images: (d) => `已索引 ${d.indexed} / ${d.image_count} 张`,
    index: "建立索引",
    again: "用这张再搜",
    failed: (n) => `${n} 张失败`,
    unreachable: "服务器没有响应，它在运行吗？",
    other: "English",
  },
};

const POLL_MS = 500;
const $ = (id) => document.getElementById(id);

let language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
let query = null; // the Blob last searched with
let newest = 0; // number of the newest search: an older answer is dropped

const text = (key, ...facts) => {
  const entry = TEXTS[language][key];
  return typeof entry === "function" ? entry(...facts) : entry;
};

function element(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

// An answer's JSON; a failure is thrown with the server's own sentence.
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(text("unreachable"));
  }
  if (response.status === 401) location.assign("/login");
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error || `HTTP ${response.status}`);
  return body;
}

function say(message, bad = false) {
  $("status").textContent = message;
  $("status").classList.toggle("error", bad);
}

async function search() {
  if (!query) return;
  const number = ++newest;
  const form = new FormData();
  form.append("query_img", query, query.name || "picture");
  form.append("mode", $("mode").value);
  form.append("top_k", $("top-k").value || "20");
  if ($("dataset-select").value) form.append("dataset_names[]", $("dataset-select").value);
  say(text("searching"));
  try {
    const { results } = await ask("/api/search", { method: "POST", body: form });
    if (number !== newest) return;
    say(text("found", results.length));
    $("results").replaceChildren(...results.map(resultCard));
  } catch (error) {
    if (number !== newest) return;
    $("results").replaceChildren();
    say(error.message, true);
  }
}

function resultCard(result) {
  const card = element("li", "result");
  const link = element("a");
  link.href = result.img_url;
  link.target = "_blank";
  link.rel = "noopener";
  const image = element("img");
  image.src = result.img_url;
  image.alt = result.fname;
  image.loading = "lazy";
  link.append(image);
  const again = element("button", "", text("again"));
  again.type = "button";
  again.addEventListener("click", async () => {
    try {
      const response = await fetch(result.img_url);
      if (!response.ok) throw new Error((await response.json()).error);
      use(new File([await response.blob()], result.fname));
    } catch (error) {
      say(error.message, true);
    }
  });
  card.append(
    link,
    element("p", "similarity", result.similarity.toFixed(1)),
    element("p", "where", `${result.dataset} / ${result.fname}`),
    again,
  );
  return card;
}

function use(blob) {
  query = blob;
  const preview = $("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(blob);
  preview.hidden = false;
  search();
}

async function showDatasets() {
  const select = $("dataset-select");
  const chosen = select.value;
  let datasets;
  try {
    ({ datasets } = await ask("/api/datasets"));
  } catch (error) {
    say(error.message, true);
    return;
  }
  const all = element("option", "", text("all"));
  all.value = "";
  select.replaceChildren(
    all,
    ...datasets.map((dataset) => {
      const option = element("option", "", dataset.name);
      option.value = dataset.name;
      return option;
    }),
  );
  select.value = datasets.some((dataset) => dataset.name === chosen) ? chosen : "";
  $("datasets").replaceChildren(
    ...(datasets.length ? datasets.map(datasetRow) : [element("li", "", text("none"))]),
  );
}

function datasetRow(dataset) {
  const row = element("li");
  const name = element("div");
  name.append(element("strong", "", dataset.name), ` · ${text("images", dataset)}`);
  const button = element("button", "", text("index"));
  button.type = "button";
  button.setAttribute("aria-label", `${text("index")}: ${dataset.name}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await ask("/api/build_index", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ dataset_names: [dataset.name] }),
      });
      await follow(row, dataset);
    } catch (error) {
      say(error.message, true);
      button.disabled = false;
    }
  });
  row.append(name, button);
  if (dataset.status === "building") {
    button.disabled = true;
    follow(row, dataset).catch((error) => say(error.message, true));
  }
  return row;
}

// Show a build's progress in its row until it ends.
async function follow(row, dataset) {
  const bar = element("progress");
  bar.max = 100;
  bar.setAttribute("aria-label", dataset.name);
  const note = element("p", "note");
  row.append(bar, note);
  const path = `/api/build_index/progress/${encodeURIComponent(dataset.name)}`;
  for (;;) {
    const state = await ask(path);
    bar.value = state.progress;
    note.textContent = state.message;
    if (state.failed) note.append(` (${text("failed", state.failed)})`);
    if (state.status === "done" || state.status === "error") break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const message = note.textContent;
  await showDatasets();
  say(`${dataset.name}: ${message}`);
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = text(node.dataset.text);
  }
  $("language").textContent = text("other");
  showDatasets();
}

$("file-input").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) use(file);
});
$("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) use(file);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) use(file);
});
$("dataset-select").addEventListener("change", search);
$("mode").addEventListener("change", search);
$("top-k").addEventListener("change", search);
$("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  translate();
});
translate();
