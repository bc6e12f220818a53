// What `ctt ui` adds to MLflow's pages; CHOICES and VIEW come from ctt/tracking/mlflow_app.py.
(() => {
  for (const [name, value] of Object.entries(CHOICES))
    if (localStorage.getItem(name) === null) localStorage.setItem(name, JSON.stringify(value));

  // MLflow shows an experiment that is opened from its list by the view that the browser keeps of it, and else with no numbers at
  // all. So the view that the experiment's tag has is put there first, until a reader has chosen other columns.
  const PLAIN = JSON.stringify(["attributes.`Source`", "attributes.`Models`", "attributes.`Dataset`"]);
  const columns = (text) => JSON.stringify(JSON.parse(text || "{}").selectedColumns);
  const offerView = (address) => {
    const id = /#\/experiments\/(\d+)(?=[/?]|$)/.exec(String(address))?.[1];
    if (id === undefined) return;
    try {
      const place = `MLflowLocalStorage-1.1-ExperimentPage-["${id}"]-ReactComponentState`;
      const ours = `ctt.view-${id}`;
      const request = new XMLHttpRequest(); // MLflow reads the view at once, so this cannot wait
      request.open("GET", `ajax-api/2.0/mlflow/experiments/get?experiment_id=${id}`, false);
      request.send();
      const tags = JSON.parse(request.responseText).experiment.tags ?? [];
      const offered = tags.find((tag) => tag.key === VIEW)?.value;
      const kept = localStorage.getItem(place), last = localStorage.getItem(ours);
      if (!offered || offered === last) return;
      if (kept !== null && ![PLAIN, columns(last)].includes(columns(kept))) return;
      localStorage.setItem(place, JSON.stringify({ ...JSON.parse(kept || "{}"), ...JSON.parse(offered) }));
      localStorage.setItem(ours, offered);
    } catch (error) {
      console.warn("ctt: MLflow's own view of the experiment is shown", error);
    }
  };
  for (const name of ["pushState", "replaceState"]) {
    const change = history[name].bind(history);
    history[name] = (state, title, address) => {
      offerView(address ?? "");
      return change(state, title, address);
    };
  }
  addEventListener("popstate", () => offerView(location.hash));
  offerView(location.hash);

  // MLflow writes means over seeds with all their digits.
  const short = (text) => text.replace(/-?\d+\.\d{3,}(e[-+]\d+)?/, (number) => {
    const value = Number(number);
    return String(Math.abs(value) < 1 ? Number(value.toPrecision(3)) : value.toFixed(2));
  });
  new MutationObserver(() => {
    for (const cell of document.querySelectorAll('.ag-cell[col-id^="metrics."] .ag-cell-value > span')) {
      const text = cell.firstChild;
      if (cell.lastChild?.textContent === "(average)" && text.data !== short(text.data)) text.data = short(text.data);
    }
  }).observe(document, { subtree: true, childList: true, characterData: true });
})();
